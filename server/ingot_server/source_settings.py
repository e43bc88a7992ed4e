"""Settings of single sources, read once from the TOML file that INGOT_SOURCES_FILE names.

    [youtube]
    cookies = "youtube.cookies.txt"
    proxy = "http://name:password@proxy.example:3128"
    rate = "300/h"
    burst = 30
    concurrency = 8
    block = "1m"
    longest_block = "1h"

A table for each source, every key optional. What the file does not say keeps the source's default.
Who hands the settings on hands on the name of the file.
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

from ingot_server.config import SettingError, Settings, parse_length, read_setting_file

VARIABLE: Final = "INGOT_SOURCES_FILE"

_PERIODS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_LARGEST: Final = 1_000_000
# Without it Python's cookie jars, and so yt-dlp, take no file.
_COOKIES_HEAD: Final = re.compile(r"#( Netscape)? HTTP Cookie File")


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """How Ingot behaves towards one source, on all workers together."""

    cookies: Path | None = None
    """A cookies file in Netscape's format; None: there are none."""
    proxy: str = field(default="", repr=False)
    """Upstream proxy of its own, which may hold a password; empty: that of all traffic."""
    rate: int = 0
    """Most jobs begun within `rate_period`; zero means no limit."""
    rate_period: timedelta = timedelta(hours=1)
    burst: int = 1
    """How many of them may begin at once after a pause."""
    concurrency: int = 0
    """Most jobs at once; zero means no limit."""
    block: timedelta = timedelta(minutes=1)
    """How long a source that refuses us is left alone at first; doubled each time."""
    longest_block: timedelta = timedelta(hours=1)


# About 300 videos an hour is what YouTube takes from one address without an account (yt-dlp's wiki,
# "Extractors", "This content isn't available, try again later").
DEFAULTS: Final[Mapping[str, SourceSettings]] = {
    "youtube": SourceSettings(rate=300, burst=30, concurrency=8),
}


def read_source_settings(
    settings: Settings, names: Collection[str]
) -> Mapping[str, SourceSettings]:
    """The settings of the sources called `names`.

    Raises SettingError for a file that cannot be used, naming the source and key that is at fault;
    no value is quoted, as it may be a secret.
    """
    found = {name: DEFAULTS.get(name, SourceSettings()) for name in names}
    if settings.sources_file:
        path = Path(settings.sources_file)
        for name, table in read_setting_file(VARIABLE, path).items():
            if name not in found:
                raise SettingError(
                    f"{VARIABLE}: {path}: there is no source `{name}`; "
                    f"the sources are {', '.join(sorted(found))}."
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
            case "rate":
                changes["rate"], changes["rate_period"] = _rate(at, value)
            case "burst":
                changes[key] = _number(at, value, least=1)
            case "concurrency":
                changes[key] = _number(at, value, least=0)
            case "block" | "longest_block":
                changes[key] = _length(at, value)
            case _:
                raise SettingError(
                    f"{where} has no key `{key}`; the keys are block, burst, concurrency, cookies, "
                    "longest_block, proxy and rate."
                )
    return dataclasses.replace(base, **changes)


def _cookies(at: str, value: object, folder: Path) -> Path | None:
    text = _text(at, value)
    if not text:
        return None
    path = folder / text
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{at} names a file that cannot be read: {path}.") from error
    if not lines or not _COOKIES_HEAD.match(lines[0]):
        raise SettingError(
            f"{at} names a file that is not in Netscape's format: {path} does not begin with the "
            "line `# Netscape HTTP Cookie File`."
        )
    for number, line in enumerate(lines, 1):
        # `#HttpOnly_` begins a cookie, any other `#` a comment.
        cookie = line.removeprefix("#HttpOnly_")
        if cookie.strip() and not cookie.startswith("#") and cookie.count("\t") != 6:
            raise SettingError(
                f"{at} names a file that is not in Netscape's format: {path}, line {number}, "
                "has not the seven fields of a cookie with tabs between them."
            )
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
        raise SettingError(f'{at} is no rate such as "300/h" or "2/s", and not 0 for none.')
    return int(match[1]), _PERIODS[match[2]]


def _number(at: str, value: object, *, least: int) -> int:
    if type(value) is not int or not least <= value <= _LARGEST:
        raise SettingError(f"{at} is no whole number from {least} to {_LARGEST}.")
    return value


def _length(at: str, value: object) -> timedelta:
    try:
        length = parse_length(str(value))
    except ValueError:
        length = timedelta(0)
    if isinstance(value, bool) or length < timedelta(milliseconds=1):
        raise SettingError(f"{at} is no length of time such as 30s, 5m or 1h.")
    return length


def _text(at: str, value: object) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{at} is no text in quotes.")
    return value
