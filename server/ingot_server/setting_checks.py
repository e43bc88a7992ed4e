"""The checks of settings that are more than their type; each raises SettingError."""

from __future__ import annotations

import re
from typing import Final

from ingot_server.allowed_destinations import parse_allowed_destinations
from ingot_server.networks import parse_networks
from ingot_server.port_ranges import parse_port_ranges
from ingot_server.setting_values import ByteSize, SettingError, parse_bytes
from ingot_server.sponsorblock_categories import chosen_categories

LEAST_BANDWIDTH: Final = ByteSize(64 << 10)
"""Bytes per second of the lowest bandwidth limit."""


def check_user_agent(text: str) -> None:
    """Check that it can be a header field of HTTP."""
    if not re.fullmatch(r"[!-~]+(?: [!-~]+)*", text):
        raise SettingError(
            f"INGOT_USER_AGENT={text!r} cannot be sent. Use words of visible ASCII characters, "
            "such as `Example/1.0 (+https://example.com/bot)`."
        )


def check_bandwidth(text: str) -> None:
    """Check that it is not too little to be shared by connections."""
    if 0 < parse_bytes(text) < LEAST_BANDWIDTH:
        raise SettingError(
            f"INGOT_BANDWIDTH={text!r} is too little: connections that take turns would look as if "
            "they stalled. Use at least `64KiB`, or 0 for no limit."
        )


def check_sponsorblock(text: str) -> None:
    """Check that SponsorBlock has these categories."""
    try:
        chosen_categories(text)
    except ValueError as error:
        raise SettingError(
            f"INGOT_SPONSORBLOCK={text!r}: {error}. Use `all`, or categories of docs/sources.md, "
            "separated by commas."
        ) from None


def check_sponsorblock_api(text: str) -> None:
    """Check that it is a URL of HTTP."""
    if not re.fullmatch(r"https?://[!-~]+", text):
        raise SettingError(
            f"INGOT_SPONSORBLOCK_API={text!r} is not a URL such as `https://sponsor.ajay.app`."
        )


def check_transcription_url(text: str) -> None:
    """Check that it is a URL of HTTP with a path, or empty."""
    if text and not re.fullmatch(r"https?://[^/@?#\s]+/[!-~]*", text):
        raise SettingError(
            f"INGOT_TRANSCRIPTION_URL={text!r} is not the URL of an endpoint, such as "
            "`https://api.openai.com/v1/audio/transcriptions`."
        )


def check_egress_allow(text: str) -> None:
    """Check that it lists destinations."""
    try:
        parse_allowed_destinations(text)
    except ValueError as error:
        raise SettingError(
            f"INGOT_EGRESS_ALLOW={text!r}: {error}. Use HOST:PORT and networks such as "
            "`10.0.0.0/8`, separated by commas."
        ) from None


def check_egress_deny(text: str) -> None:
    """Check that it lists addresses and networks."""
    try:
        parse_networks(text)
    except ValueError as error:
        raise SettingError(
            f"INGOT_EGRESS_DENY={text!r}: {error}. Use addresses and networks such as "
            "`198.51.100.0/24`, separated by commas."
        ) from None


def check_egress_ports(text: str) -> None:
    """Check that it lists ports."""
    try:
        parse_port_ranges(text)
    except ValueError as error:
        raise SettingError(
            f"INGOT_EGRESS_PORTS={text!r}: {error}. Use numbers from 1 to 65535 and ranges such as "
            "`1024-65535`, separated by commas."
        ) from None
