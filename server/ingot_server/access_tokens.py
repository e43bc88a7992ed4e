"""The tokens that callers prove who they are with. Only their hashes are kept.

    [[token]]
    name = "recorder"
    sha256 = "6f0c...e1"
    scopes = ["read", "ingest"]
    expire_time = 2027-01-31T00:00:00Z
    quota = { calls = 20, jobs = 100 }

Such entries are in the TOML file INGOT_TOKENS_FILE, in the setting INGOT_TOKENS, or in both.
Several tokens may have one name. They are one caller: so a token can be replaced by another while
both are accepted. A token without `expire_time` never expires. What `quota` does not name is
limited as the settings say.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingot.v1.scope_pb2 import Scope
from ingot_server.caller_limits import NO_LIMITS, CallerLimits
from ingot_server.config import Settings
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.setting_values import SettingError, read_setting_file
from ingot_server.watched_file import FileVersion, changes, file_version

logger = EventLogger(__name__)

FILE_VARIABLE: Final = "INGOT_TOKENS_FILE"
VARIABLE: Final = "INGOT_TOKENS"

SCOPES: Final[Mapping[str, Scope.ValueType]] = {
    name.removeprefix("SCOPE_").lower(): number for name, number in Scope.items() if number
}
"""The scopes by their names in settings."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]{0,62}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KEYS: Final = frozenset({"name", "sha256", "scopes", "expire_time", "quota"})
# Secret scanners find a token in a repository by this.
_PREFIX: Final = "ingot_"
_RANDOM_BYTES: Final = 32
_NAME_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What is known about a token."""

    name: str
    """Whose it is."""
    sha256: bytes = field(repr=False)
    """The digest of the token. It needs no salt: a token has 256 random bits."""
    scopes: frozenset[Scope.ValueType]
    expires: float = float("inf")
    """When it stops to be accepted, in seconds since 1970."""
    limits: CallerLimits = NO_LIMITS
    """What its caller may use."""


class AccessTokens:
    """The tokens of the settings. `keep_current` reads the file again when it changes.

    Raises SettingError if the entries cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.tokens_file) if settings.tokens_file else None
        self._limits = CallerLimits.of(settings)
        self._given = tokens_of_setting(settings.tokens, self._limits)
        self.configured = bool(settings.tokens_file or settings.tokens)
        """Whether the settings name tokens, also if the file has none at the moment."""
        self._version: FileVersion = None
        self._by_digest = self._read()

    def find(self, token: str) -> AccessToken | None:
        """Return the entry of a token, also if it has expired; None for an unknown token."""
        # A caller cannot choose digests, so the time of the lookup tells nothing about a token.
        return self._by_digest.get(hashlib.sha256(token.encode()).digest())

    def is_valid(self, token: AccessToken) -> bool:
        """Return whether an entry is still one of the settings, and has not expired."""
        return self._by_digest.get(token.sha256) is token and token.expires > time.time()

    def named(self, name: str) -> list[AccessToken]:
        """Return the entries of a caller's tokens that have not expired, the last one last."""
        now = time.time()
        return [
            token
            for token in self._by_digest.values()
            if token.name == name and token.expires > now
        ]

    async def keep_current(self) -> None:
        """Read the file again each time that it has changed. Never ends.

        A file that cannot be used changes nothing, and is reported in the log once.
        """
        if self._path is None:
            return
        async for _ in changes(self._path, self._version):
            try:
                self._by_digest = await asyncio.to_thread(self._read)
            except SettingError as error:
                logger.error(Event.TOKENS_NOT_READ, "%s The tokens stay as they were.", error)
            else:
                logger.info(Event.TOKENS_READ, "%s: %d tokens", FILE_VARIABLE, len(self._by_digest))

    def _read(self) -> dict[bytes, AccessToken]:
        tokens = list(self._given)
        if self._path is not None:
            self._version = file_version(self._path)
            content = read_setting_file(FILE_VARIABLE, self._path)
            tokens += _tokens(content, f"{FILE_VARIABLE}: {self._path}", self._limits)
        return {token.sha256: token for token in tokens}


def tokens_of_setting(text: str, limits: CallerLimits) -> tuple[AccessToken, ...]:
    """Return the entries in the value of INGOT_TOKENS. Raises SettingError.

    `limits` are those of callers whose entries have no `quota`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{VARIABLE} is not valid TOML: {error}.") from error
    return tuple(_tokens(content, VARIABLE, limits))


def caller_name(text: str) -> str:
    """Return the name of a caller that another credential names `text`.

    It is `text`, or the beginning of its SHA-256 if a token could not have that name.
    """
    if _NAME.fullmatch(text):
        return text
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_NAME_DIGITS]


def new_token() -> str:
    """Return a new random token."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def entry(
    token: str,
    name: str,
    scopes: list[str],
    expire_time: datetime | None,
    quota: Mapping[str, str] | None = None,
) -> str:
    """Return the entry of a token, as it is in the file. Raises SettingError."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    lines = ["[[token]]", f'name = "{name}"', f'sha256 = "{digest}"', f"scopes = [{listed}]"]
    if expire_time is not None:
        lines.append(f"expire_time = {expire_time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    if quota:
        values = (
            f"{limit} = {value}" if value.isdecimal() else f'{limit} = "{value}"'
            for limit, value in quota.items()
        )
        lines.append(f"quota = {{ {', '.join(values)} }}")
    table = {"name": name, "sha256": digest, "scopes": scopes, "quota": quota or {}}
    _token(table, "ingot-server token", NO_LIMITS)
    return "\n".join(lines) + "\n"


def _tokens(
    content: Mapping[str, object], where: str, limits: CallerLimits
) -> Iterator[AccessToken]:
    entries = content.get("token", [])
    if not isinstance(entries, list) or content.keys() - {"token"}:
        raise SettingError(f"{where}: write each token as a table, [[token]], and nothing else.")
    for number, table in enumerate(entries, start=1):
        yield _token(table, f"{where}: [[token]] {number}", limits)


def _token(table: object, where: str, limits: CallerLimits) -> AccessToken:
    if not isinstance(table, dict) or table.keys() - _KEYS:
        raise SettingError(f"{where}: the keys are {', '.join(sorted(_KEYS))}.")
    name, digest = table.get("name"), table.get("sha256")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingError(
            f"{where} name: use up to 63 letters, digits, `.`, `_`, `@`, `/` and `-`, and begin "
            "with a letter or a digit."
        )
    where = f"{where} ({name})"
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise SettingError(
            f"{where} sha256: write the SHA-256 of the token as 64 lower-case hexadecimal digits, "
            "never the token itself. `ingot-server token` prints an entry."
        )
    scopes = table.get("scopes")
    if not isinstance(scopes, list) or not scopes or set(map(str, scopes)) - SCOPES.keys():
        raise SettingError(f"{where} scopes: list one or more of {', '.join(SCOPES)}.")
    return AccessToken(
        name,
        bytes.fromhex(digest),
        frozenset(SCOPES[scope] for scope in scopes),
        _expires(table.get("expire_time"), where),
        limits.with_quota(table.get("quota", {}), where),
    )


def _expires(value: object, where: str) -> float:
    if value is None:
        return float("inf")
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise SettingError(
            f"{where} expire_time: write a date and time with its zone, without quotes, such as "
            "2027-01-31T00:00:00Z."
        )
    return value.timestamp()
