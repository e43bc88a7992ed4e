"""The head of a source's HTTP response: status, file name, version, ranges. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.live_streams import is_live_stream

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
LONGEST_WAIT: Final = timedelta(hours=1)

_REASONS: Final = {
    401: (reason_pb2.REASON_PRIVATE, "requires an account"),
    403: (reason_pb2.REASON_PRIVATE, "refuses access"),
    404: (reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "does not have this file"),
    410: (reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "says that the file was removed for good"),
    429: (reason_pb2.REASON_RATE_LIMITED, "says that too many requests were made"),
    451: (reason_pb2.REASON_GEO_BLOCKED, "refuses access for legal reasons"),
}

PAGES: Final = frozenset({"text/html", "application/xhtml+xml", "application/rss+xml"})
_CONTENT_RANGE: Final = re.compile(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)", re.IGNORECASE)
# RFC 8187. Some servers put it into quotes.
_ENCODED_NAME: Final = re.compile(
    r"""filename\*\s*=\s*(?P<quote>"?)(?P<charset>[\w!#$&+^`{}~.-]+)'[^']*'"""
    r"""(?P<name>(?(quote)[^";]+|[^\s;,]+))""",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(r"=\?[^?\s]+\?[BbQq]\?[^?]*\?=(?:\s*=\?[^?\s]+\?[BbQq]\?[^?]*\?=)*")
_ESCAPED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_PLAIN_NAME: Final = re.compile(r'filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))', re.IGNORECASE)


class LiveResponse(Failure):
    """The response is radio, which has no end."""


class PageResponse(Failure):
    """The response is a page or a manifest, which the extractor may read, and not a file."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A Content-Range field (RFC 9110, section 14.4)."""

    first: int | None
    last: int | None
    total: int | None

    @property
    def is_whole(self) -> bool:
        """Whether the range is the whole file."""
        return self.first == 0 and self.last is not None and self.last + 1 == self.total


@dataclass(frozen=True, slots=True)
class Version:
    """The version of a content, by its ETag and Last-Modified; either may be empty."""

    etag: str
    last_modified: str

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Version:
        """Return the version that the headers of a response name."""
        return cls(_sendable(headers.get("ETag", "")), _sendable(headers.get("Last-Modified", "")))

    @property
    def validator(self) -> str:
        """The value for If-Range: a strong entity tag, else the date (RFC 9110, 13.1.5)."""
        strong = self.etag if self.etag.startswith('"') else ""
        return strong or self.last_modified

    def differs(self, other: Version) -> bool:
        """Return whether these certainly differ; a field that one of them lacks does not count."""
        if self.etag and other.etag:
            return self.etag.removeprefix("W/") != other.etag.removeprefix("W/")
        return bool(self.last_modified and other.last_modified) and (
            self.last_modified != other.last_modified
        )


def status_failure(status: int, headers: Mapping[str, str], host: str) -> Failure:
    """Return the failure that a response with this status means."""
    reason, what = _REASONS.get(
        status, (reason_pb2.REASON_SOURCE_FAILED, f"returned the status {status}")
    )
    # The extractor may know more about the pages of a site than a browser sends.
    refused = status in {401, 403, 406, 412} and media_type(headers) in PAGES
    return (PageResponse if refused else Failure)(
        reason,
        f"{host} {what}.",
        metadata={"http_status": str(status)},
        retry_after=parse_retry_after(headers.get("Retry-After", "")),
    )


def check_end(headers: Mapping[str, str], host: str) -> None:
    """Raise LiveResponse if the body has no end."""
    if is_live_stream(headers):
        raise LiveResponse(
            reason_pb2.REASON_LIVE_STREAM,
            f"{host} sends a live stream. Set record_duration to record a part of it.",
        )


def media_type(headers: Mapping[str, str]) -> str:
    """Return the Content-Type without parameters, in lower case; empty if it is missing."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def content_range(headers: Mapping[str, str]) -> ByteRange | None:
    """Return the Content-Range; None if it is missing or malformed."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        return None
    first, last, total = match.groups()
    return ByteRange(
        int(first) if first else None,
        int(last) if last else None,
        int(total) if total != "*" else None,
    )


def location(field: str) -> str:
    """Return a Location field as text, with bytes that are not UTF-8 percent-encoded."""
    return re.sub(r"[\udc80-\udcff]", lambda one: f"%{ord(one[0]) - 0xDC00:02X}", field.strip())


def file_name(headers: Mapping[str, str], url: str) -> str:
    """Return the file's name for people, at most 255 bytes; empty if neither source names it.

    It is the name in Content-Disposition (RFC 6266), else the last segment of the URL's path. It is
    safe to show, but not to use as a path.
    """
    disposition = headers.get("Content-Disposition", "")
    return _shown(_disposition_name(disposition)) or _shown(
        unquote(urlsplit(url).path.rpartition("/")[2])
    )


def _disposition_name(disposition: str) -> str:
    encoded = _ENCODED_NAME.search(disposition)
    if encoded is not None:
        try:
            return unquote_to_bytes(encoded["name"]).decode(encoded["charset"])
        except (LookupError, UnicodeError):
            pass  # RFC 6266, section 4.3: fall back to the plain name
    plain = _PLAIN_NAME.search(_ENCODED_NAME.sub("", disposition))
    if plain is None:
        return ""
    name = re.sub(r"\\(.)", r"\1", plain[1]) if plain[1] is not None else plain[2]
    raw = name.encode(errors="surrogateescape")
    try:
        return _decoded(raw.decode())
    except UnicodeError:
        return raw.decode("latin-1")


def _decoded(name: str) -> str:
    """Return a plain name without the encodings that some servers apply to it.

    Those are the words of RFC 2047 and percent-encoding, as browsers read them.
    """
    if _WORDS.search(name):
        try:
            return _WORDS.sub(lambda words: str(make_header(decode_header(words[0]))), name)
        except (HeaderParseError, LookupError, ValueError):
            return name
    try:
        return unquote(name, errors="strict") if _ESCAPED.search(name) else name
    except UnicodeError:
        return name


def _shown(name: str) -> str:
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    # Category C includes characters that change the text direction, which can hide an extension.
    kept = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in name)
    name = " ".join(kept.split()).strip(" .")
    if len(name.encode()) <= 255:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = f"{dot}{extension}" if stem and len(extension.encode()) <= 16 else ""
    stem = name.removesuffix(ending).encode()[: 255 - len(ending.encode())].decode(errors="ignore")
    return stem + ending


def _sendable(field: str) -> str:
    """Return a field that can be sent back later; empty if its bytes are not UTF-8."""
    return "" if re.search(r"[\udc80-\udcff]", field) else field


def parse_retry_after(text: str) -> timedelta:
    """Parse Retry-After: seconds or a date (RFC 9110, 10.2.3); one second if it is missing."""
    wait = timedelta(seconds=1)
    if re.fullmatch(r"\d{1,9}", text.strip()):
        wait = timedelta(seconds=int(text))
    elif text:
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return wait
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        wait = when - datetime.now(UTC)
    return min(max(wait, timedelta(seconds=1)), LONGEST_WAIT)
