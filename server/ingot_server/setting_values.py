"""The values of settings: how each type is written in a variable, and read from it."""

from __future__ import annotations

import enum
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

FILE: Final = "_FILE"
"""What the variable ends with that names a file with a secret."""

_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_BOOLEANS: Final = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


class SettingError(Exception):
    """A setting cannot be used; the message has its name, its value and what it should be."""


class ByteSize(int):
    """A number of bytes, written in a setting as `512MiB` or `536870912`."""


class Secret(str):
    """A text whose repr is `***`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class CacheSharing(enum.StrEnum):
    """Who has which media, see library/tenants.py."""

    SHARED = "shared"
    PRIVATE = "private"

    def tenant_of(self, owner: str) -> str:
        """Return the tenant that a caller is: empty without a name, or if the cache is shared."""
        return owner if self is CacheSharing.PRIVATE else ""


class LogFormat(enum.StrEnum):
    """How the log is written, see event_log.py."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The least important events that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def parse_value(name: str, text: str, kind: type[Any]) -> object:
    """Parse the text of the variable `name` as a `kind`. Raises SettingError if it is none."""
    try:
        if kind is bool:
            return _BOOLEANS[text.lower()]
        if kind is timedelta:
            return parse_duration(text)
        if kind is ByteSize:
            return parse_bytes(text)
        if kind is int:
            number = int(text)
            if number < 0:
                raise ValueError
            return number
        return kind(text)
    except (KeyError, ValueError):
        raise SettingError(f"{name}={text!r} is not {_EXPECTED[kind]}.") from None


_EXPECTED: Final[Mapping[type[object], str]] = {
    bool: "`on` or `off`",
    timedelta: "a duration such as `30s`, `5m` or `1h`, or a number of seconds",
    ByteSize: "a size such as `512MiB` or `20GiB`, or a number of bytes",
    CacheSharing: "`shared` or `private`",
    LogFormat: "`text` or `json`",
    LogLevel: "`debug`, `info`, `warning` or `error`",
    int: "a whole number that is not negative",
}


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `30s`, `5m`, `1h`, or seconds. Raises ValueError."""
    try:
        return timedelta(seconds=_scaled(text, _SECONDS, "s"))
    except (KeyError, OverflowError):
        raise ValueError(text) from None


def parse_bytes(text: str) -> ByteSize:
    """Parse a size such as `512MiB`, or a number of bytes. Raises ValueError."""
    try:
        return ByteSize(_scaled(text, _BYTES, ""))
    except (KeyError, OverflowError):
        raise ValueError(text) from None


def _scaled(text: str, units: Mapping[str, float], default: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None:
        raise ValueError(text)
    return float(match[1]) * units[match[2] or default]


def format_value(value: object) -> str:
    """Return what `parse_value` reads as `value`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.6f}s"
    if isinstance(value, ByteSize):
        return str(int(value))
    return str(value)


def secret_text(environment: Mapping[str, str], name: str) -> str | None:
    """Return the text of a secret: the variable `name`, or the content of the file NAME_FILE.

    The end of the line after it is not a part of it. None means that neither is set. Raises
    SettingError if both are, or if the file cannot be read.
    """
    path = environment.get(name + FILE)
    if path is None:
        return environment.get(name)
    if name in environment:
        raise SettingError(f"{name} and {name}{FILE} are both set. Unset one of them.")
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise SettingError(
            f"{name}{FILE}: {path} cannot be read: {error.strerror}. Name a file that Ingot's user "
            "may read."
        ) from error
    except UnicodeDecodeError:
        raise SettingError(f"{name}{FILE}: {path} is not a text in UTF-8.") from None
    return text.removesuffix("\n").removesuffix("\r")


def read_setting_file(variable: str, path: Path) -> dict[str, object]:
    """Return the content of the TOML file that the setting `variable` names.

    Raises SettingError if the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(f"{variable}: {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingError(f"{variable}: {path} is not valid TOML: {error}.") from error
