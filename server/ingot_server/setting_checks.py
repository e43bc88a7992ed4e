"""The checks of settings that are more than their type; each raises SettingError."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Final

from ingot_server.allowed_destinations import parse_allowed_destinations
from ingot_server.networks import parse_networks
from ingot_server.port_ranges import parse_port_ranges
from ingot_server.setting_values import ByteSize, SettingError, parse_bytes
from ingot_server.sponsorblock_categories import chosen_categories

LEAST_BANDWIDTH: Final = ByteSize(64 << 10)
"""Bytes per second of the lowest bandwidth limit."""
SIGNING_HINT: Final = "`echo whsec_$(openssl rand -base64 32)` makes one."
"""How to make a secret of INGOT_WEBHOOK_SECRETS."""
BUCKET_FOLDERS: Final = tuple(
    "alias feeds index journal media probe scrub subscriptions uploads webhooks".split()
)
"""The folders that Ingot uses in its bucket, or under INGOT_S3_PREFIX there."""
_MOST_PREFIX: Final = 256
_WHSEC: Final = "whsec_"
_MOST_SECRETS: Final = 2
_TRACE_PROTOCOL: Final = "http/protobuf"


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


def check_s3_credentials(text: str) -> None:
    """Check that it is a source of keys."""
    if text not in ("keys", "role", "web-identity"):
        raise SettingError(
            f"INGOT_S3_CREDENTIALS={text!r} is not `keys`, `role` or `web-identity`."
        )


def check_s3_prefix(text: str) -> None:
    """Check that it names a folder which no other Ingot takes for one of its own."""
    segments = text.removesuffix("/").split("/") if text else []
    plain = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
    if len(text) > _MOST_PREFIX or not all(plain.fullmatch(each) for each in segments):
        raise SettingError(
            f"INGOT_S3_PREFIX={text!r} is not a folder such as `ingot` or `teams/media`. Use up to "
            f"{_MOST_PREFIX} letters, digits, dots, dashes and underscores, without a slash at its "
            "beginning."
        )
    if taken := sorted(set(segments) & set(BUCKET_FOLDERS)):
        raise SettingError(
            f"INGOT_S3_PREFIX={text!r} has the folder {taken[0]!r}, which an Ingot without this "
            "prefix uses itself, and clears up. Use another name."
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


def check_insecure(text: str) -> None:
    """Check that it names what can be waived."""
    if unknown := set(text.replace(",", " ").split()) - {"authentication", "tls", "all"}:
        raise SettingError(
            f"INGOT_INSECURE has {min(unknown)!r}. It may have `authentication`, `tls` or `all`."
        )


OPENABLE_SERVICES: Final = frozenset({"health", "reflection", "metrics"})
"""What open_services may name."""


def check_open_services(text: str) -> None:
    """Check that it lists services that can be open to callers without a credential."""
    if unknown := set(text.replace(",", " ").split()) - OPENABLE_SERVICES:
        raise SettingError(
            f"INGOT_OPEN_SERVICES has {min(unknown)!r}. "
            "It may have `health`, `reflection` and `metrics`."
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


def check_trace_protocol(environment: Mapping[str, str]) -> None:
    """Check that the variables of OpenTelemetry ask for the one protocol that Ingot speaks."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if (protocol := environment.get(name, _TRACE_PROTOCOL)) != _TRACE_PROTOCOL:
            raise SettingError(
                f"{name}={protocol!r} is not what Ingot speaks. Unset it, and let the endpoint be "
                f"the collector's port for {_TRACE_PROTOCOL}, which usually is 4318."
            )


def check_webhook_url(text: str) -> None:
    """Check that it is a URL of HTTP without user info, or empty."""
    if text and not re.fullmatch(r"https?://[^/@?#\s]+(?:[/?][!-~]*)?", text):
        raise SettingError(
            "INGOT_WEBHOOK_URL is not a URL without user info, such as "
            "`https://example.com/webhooks`."
        )


def check_webhook_secrets(text: str) -> None:
    """Check that they are at most two secrets of Standard Webhooks. Its messages have none."""
    try:
        secrets = parse_webhook_secrets(text)
    except ValueError:
        raise SettingError(
            "INGOT_WEBHOOK_SECRETS has a secret that is not `whsec_` and 24 to 64 bytes in base64. "
            + SIGNING_HINT
        ) from None
    if len(secrets) > _MOST_SECRETS:
        raise SettingError(
            f"INGOT_WEBHOOK_SECRETS has {len(secrets)} secrets. Use one, or two while the first "
            "replaces the second."
        )


def parse_webhook_secrets(text: str) -> Sequence[bytes]:
    """Parse secrets, separated by commas, into their keys. Raises ValueError."""
    keys = []
    for secret in filter(None, (part.strip() for part in text.split(","))):
        try:
            key = base64.b64decode(secret.removeprefix(_WHSEC), validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
        if not secret.startswith(_WHSEC) or not 24 <= len(key) <= 64:
            raise ValueError("not a secret of Standard Webhooks")
        keys.append(key)
    return keys
