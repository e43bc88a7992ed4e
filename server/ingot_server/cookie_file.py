"""Cookies files in Netscape format: whose cookies they have, and when these expire.

Each cookie is a line of seven fields, separated by tabs: domain, whether subdomains match, path,
whether it needs HTTPS, expiry in seconds since 1970, name, value. An expiry of 0 or none is that of
a session cookie, which yt-dlp sends as long as the file has it. Values are read by nobody here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Python's cookie jars, and so yt-dlp, refuse a file without this line.
_HEAD: Final = re.compile(r"#( Netscape)? HTTP Cookie File")
_HTTP_ONLY: Final = "#HttpOnly_"
_FIELDS: Final = 7
_EXPIRY: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]+)?", re.ASCII)
# The last second that a protobuf Timestamp can hold.
_LAST_SECOND: Final = 253402300799
_DIGEST_DIGITS: Final = 32


class CookieFileError(Exception):
    """A cookies file cannot be used; the message goes on from the words `a file that`."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie, without its value."""

    domain: str
    """Lower-case, without the dot before it."""
    name: str
    expiry: int | None
    """In seconds since 1970; None for a session cookie."""


@dataclass(frozen=True, slots=True)
class CookieFile:
    """What a file has."""

    cookies: Sequence[Cookie]
    digest: str
    """Names the content; it is a part of a SHA-256, which tells nothing of the values."""

    def domain_of(self, host: str) -> str:
        """Return the shortest domain of a cookie that is sent to `host`; empty if none is."""
        host = host.lower().rstrip(".")
        domains = {cookie.domain for cookie in self.cookies}
        matching = [name for name in domains if host == name or host.endswith(f".{name}")]
        return min(matching, key=len, default="")

    def has_login(self, needed: Sequence[Collection[str]]) -> bool:
        """Tell whether it has one cookie of each group of names in `needed`."""
        names = {cookie.name for cookie in self.cookies}
        return all(not names.isdisjoint(group) for group in needed)

    def expiry(self, needed: Sequence[Collection[str]] = ()) -> int | None:
        """Return when the cookies cannot sign in any more, in seconds since 1970.

        That is when all of a group in `needed` have expired, or without groups all that there are:
        most cookies of a site are about other things than the account, and expire at any time.
        None if session cookies remain.
        """
        groups = [
            [cookie.expiry for cookie in self.cookies if cookie.name in names] for names in needed
        ] or [[cookie.expiry for cookie in self.cookies]]
        ends = [_last(group) for group in groups if group]
        return min((end for end in ends if end is not None), default=None)


def read_cookie_file(path: Path) -> CookieFile:
    """Read a file. Raises CookieFileError."""
    try:
        content = path.read_bytes()
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CookieFileError(f"cannot be read: {path}.") from error
    if not lines or not _HEAD.match(lines[0]):
        raise CookieFileError(
            f"is not in Netscape format: {path} does not begin with the line "
            "`# Netscape HTTP Cookie File`."
        )
    cookies = []
    for number, line in enumerate(lines, 1):
        # A line that begins with `#HttpOnly_` is a cookie; any other `#` begins a comment.
        text = line.removeprefix(_HTTP_ONLY)
        if not text.strip() or text.startswith("#"):
            continue
        fields = text.split("\t")
        if len(fields) != _FIELDS:
            raise CookieFileError(
                f"is not in Netscape format: {path}, line {number}, does not have the seven fields "
                "of a cookie, separated by tabs."
            )
        # yt-dlp skips a cookie with another expiry.
        if not fields[4] or _EXPIRY.fullmatch(fields[4]):
            cookies.append(_cookie(fields))
    digest = hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]
    return CookieFile(tuple(cookies), digest)


def _cookie(fields: Sequence[str]) -> Cookie:
    expiry = min(int(float(fields[4] or 0)), _LAST_SECOND)
    return Cookie(fields[0].lower().removeprefix("."), fields[5], expiry or None)


def _last(expiries: Sequence[int | None]) -> int | None:
    """Return when the last of some cookies expires; None if one is a session cookie."""
    known = [expiry for expiry in expiries if expiry is not None]
    return max(known) if len(known) == len(expiries) else None
