"""The settings of single sources, read once from the TOML file that INGOT_SOURCES_FILE names.

    [youtube]
    cookies = "youtube.cookies.txt"
    proxy = "http://name:password@proxy.example:3128"
    rate = "300/h"
    burst = 30
    concurrency = 8
    bandwidth = "5MiB"
    block = "1m"
    longest_block = "1h"

The file has a table for each source, and every key is optional: a key that is missing keeps the
source's default. A child process receives the name of the file and reads it again.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from ingot_server.config import Settings
from ingot_server.cookie_file import CookieFileError, read_cookie_file
from ingot_server.setting_checks import LEAST_BANDWIDTH
from ingot_server.setting_values import SettingError, parse_bytes, parse_duration, read_setting_file

VARIABLE: Final = "INGOT_SOURCES_FILE"

_PERIODS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_LARGEST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """The settings of one source. Limits of jobs apply to all workers together."""

    cookies: Path | None = None
    """A cookies file in Netscape format, if there is one."""
    proxy: str = field(default="", repr=False)
    """Its own upstream proxy, which may contain a password; empty means INGOT_EGRESS_PROXY."""
    bandwidth: int = 0
    """Bytes per second that each worker receives from it at most; zero means no limit."""
    rate: int = 0
    """Rate limit: how many jobs may start in a `rate_period`; zero means no limit."""
    rate_period: timedelta = timedelta(hours=1)
    burst: int = 1
    """How many of them may start at once after a pause."""
    concurrency: int = 0
    """Concurrency limit: how many jobs may run at the same time; zero means no limit."""
    block: timedelta = timedelta(minutes=1)
    """How long the circuit breaker stays open at first; doubled after each failed trial."""
    longest_block: timedelta = timedelta(hours=1)
    """How long the circuit breaker stays open at most."""


# YouTube allows about 300 videos an hour from one address without an account (yt-dlp's wiki,
# "Extractors", "This content isn't available, try again later").
DEFAULTS: Final[Mapping[str, SourceSettings]] = {
    "youtube": SourceSettings(rate=300, burst=30, concurrency=8),
}


def read_source_settings(
    settings: Settings, names: Collection[str]
) -> Mapping[str, SourceSettings]:
    """Return the settings of the sources with these names.

    Raises SettingError for a file that cannot be used. The message names the source and the key,
    but never quotes a value, which may be a secret.
    """
    found = {name: DEFAULTS.get(name, SourceSettings()) for name in names}
    if settings.sources_file:
        path = Path(settings.sources_file)
        for name, table in read_setting_file(VARIABLE, path).items():
            if name not in found:
                raise SettingError(
                    f"{VARIABLE}: {path}: `{name}` is not a source. "
                    f"The sources are {', '.join(sorted(found))}."
                )
            if not isinstance(table, dict):
                raise SettingError(f"{VARIABLE}: {path}: write `{name}` as a table, [{name}].")
            found[name] = _merged(found[name], table, f"{VARIABLE}: {path}: [{name}]", path.parent)
    return MappingProxyType(found)


def _merged(
    base: SourceSettings, table: Mapping[str, object], where: str, folder: Path
) -> SourceSettings:
    changes: dict[str, Any] = {}
    for key, value in table.items():
        at = f"{where} {key}"
        match key:
            case "cookies":
                changes[key] = _cookies(at, value, folder)
            case "proxy":
                changes[key] = _proxy(at, value)
            case "bandwidth":
                changes[key] = _bandwidth(at, value)
            case "rate":
                changes["rate"], changes["rate_period"] = _rate(at, value)
            case "burst":
                changes[key] = _number(at, value, least=1)
            case "concurrency":
                changes[key] = _number(at, value, least=0)
            case "block" | "longest_block":
                changes[key] = _duration(at, value)
            case _:
                raise SettingError(
                    f"{where} cannot have the key `{key}`. The keys are bandwidth, block, burst, "
                    "concurrency, cookies, longest_block, proxy and rate."
                )
    return dataclasses.replace(base, **changes)


def _cookies(at: str, value: object, folder: Path) -> Path | None:
    text = _text(at, value)
    if not text:
        return None
    path = folder / text
    try:
        read_cookie_file(path)
    except CookieFileError as error:
        raise SettingError(f"{at} names a file that {error}") from error
    return path.absolute()


def _proxy(at: str, value: object) -> str:
    text = _text(at, value)
    if text:
        try:
            parts = urlsplit(text)
            usable = (
                parts.scheme == "http"
                and bool(parts.hostname and parts.port)
                and parts.path in ("", "/")
                and not (parts.query or parts.fragment)
            )
        except ValueError:
            usable = False
        if not usable:
            raise SettingError(f"{at} is not http://[USER:PASSWORD@]HOST:PORT.")
    return text


def _rate(at: str, value: object) -> tuple[int, timedelta]:
    if type(value) is int and value == 0:
        return 0, timedelta(hours=1)
    match = re.fullmatch(r"(\d{1,6})\s*/\s*([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise SettingError(f'{at} is not a rate such as "300/h" or "2/s", nor 0 for no limit.')
    return int(match[1]), _PERIODS[match[2]]


def _bandwidth(at: str, value: object) -> int:
    if type(value) is int and value == 0:
        return 0
    try:
        found = parse_bytes(value) if isinstance(value, str) else 0
    except ValueError:
        found = 0
    if found < LEAST_BANDWIDTH:
        raise SettingError(f'{at} is not a size from "64KiB" on, such as "5MiB", nor 0.')
    return found


def _number(at: str, value: object, *, least: int) -> int:
    if type(value) is not int or not least <= value <= _LARGEST:
        raise SettingError(f"{at} is not a whole number from {least} to {_LARGEST}.")
    return value


def _duration(at: str, value: object) -> timedelta:
    try:
        duration = parse_duration(str(value))
    except ValueError:
        duration = timedelta(0)
    if isinstance(value, bool) or duration < timedelta(milliseconds=1):
        raise SettingError(f"{at} is not a duration such as 30s, 5m or 1h.")
    return duration


def _text(at: str, value: object) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{at} is not a text in quotes.")
    return value
