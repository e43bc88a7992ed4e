"""Whether the cookies of sources can still be used, without any request of its own.

A cookies file says when its cookies expire; the answers that sites give to jobs say whether they
accept them. What one worker learns is in Redis for all:

    ingot:cookies:<source>:<digest>   hash: domain of a site -> `accepted <ms>` or `rejected <ms>`,
                                      the milliseconds since 1970 of its last answer

The digest names the content of the file, so a file that was renewed begins without answers. The key
expires 30 days after the last one. Files are looked at again whenever they are needed, so a change
needs no restart. Values of cookies are neither kept nor sent anywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from google.protobuf.timestamp_pb2 import Timestamp

from ingot.v1.source_service_pb2 import CookiesStatus
from ingot_server.cookie_file import CookieFile, CookieFileError, read_cookie_file
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.findings import Finding, warning
from ingot_server.log_events import Event
from ingot_server.redis import Redis, unavailable
from ingot_server.source_settings import SourceSettings
from ingot_server.sources import SOURCES
from ingot_server.watched_file import FileVersion, file_version

logger = EventLogger(__name__)

EXPIRES_SOON: Final = timedelta(days=7)
COOKIES_STATES: Final = tuple(number for number in CookiesStatus.State.values() if number)
LOOK_SECONDS: Final = 10.0

_COOKIES: Final = "cookies:"
_ANSWERS_KEPT: Final = timedelta(days=30)
_ACCEPTED: Final = "accepted"
_REJECTED: Final = "rejected"
_RENEW: Final = "Export them again from a browser that is signed in: docs/cookies.md."
_LOGIN: Final = {source.name: source.login_cookies for source in SOURCES}


@dataclass(frozen=True, slots=True)
class SourceCookies:
    """The cookies of a source, as their file was when a job began to use them."""

    source: str
    path: Path
    """The operator's file: a program that writes to its cookies must get a copy."""
    content: CookieFile


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site last said to the cookies of one file."""

    domain: str
    accepted: bool
    milliseconds: int
    """When, since 1970."""


@dataclass(slots=True)
class _Known:
    """A file as it was read last."""

    version: FileVersion
    content: CookieFile | CookieFileError


class CookieHealth:
    """The cookies of all sources that have some; one object for each process.

    `redis` returns bytes (`decode_responses` is off).
    """

    def __init__(self, redis: Redis, sources: Mapping[str, SourceSettings]) -> None:
        self._redis = redis
        self._paths = {
            name: settings.cookies for name, settings in sources.items() if settings.cookies
        }
        self._files: dict[str, _Known] = {}

    async def of(self, source: str) -> SourceCookies | None:
        """Return the cookies of a source; None if it has no file that can be read now.

        Send them only after an attempt without them failed with one of COOKIES_MAY_HELP.
        """
        path = self._paths.get(source)
        content = await self._read(source) if path else None
        if path is None or not isinstance(content, CookieFile):
            return None
        return SourceCookies(source, path, content)

    async def record(self, cookies: SourceCookies, url: str, *, accepted: bool) -> None:
        """Remember how the site at `url` answered a job that had these cookies.

        The answer of a site that none of them is sent to is not about them. Raises Failure
        CACHE_UNAVAILABLE.
        """
        domain = cookies.content.domain_of(urlsplit(url).hostname or "")
        if not domain:
            return
        key = self._key(cookies.source, cookies.content)
        answer = f"{_ACCEPTED if accepted else _REJECTED} {time.time_ns() // 1_000_000}"
        with unavailable():
            async with self._redis.pipeline() as pipeline:
                pipeline.hset(key, domain, answer)
                pipeline.pexpire(key, _ANSWERS_KEPT)
                await pipeline.execute()

    async def read(self) -> Mapping[str, CookiesStatus]:
        """Return the status of the cookies of each source that has some.

        Raises Failure CACHE_UNAVAILABLE.
        """
        return {source: await self._status(source) for source in self._paths}

    async def keep_reporting(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Log each change of a state; ends only if no source has cookies.

        While Redis cannot be used, nothing is said.
        """
        known: dict[str, CookiesStatus.State.ValueType] = {}
        while self._paths:
            try:
                found = await self.read()
            except Failure:
                found = {}
            for source, status in found.items():
                if status.state != known.get(source, CookiesStatus.STATE_VALID):
                    _log(source, status)
                known[source] = status.state
            await asyncio.sleep(look_seconds)

    async def _status(self, source: str) -> CookiesStatus:
        file = await self._read(source)
        answers = await self._answers(source, file) if isinstance(file, CookieFile) else []
        return status_of(source, file, answers)

    async def _answers(self, source: str, file: CookieFile) -> list[Answer]:
        with unavailable():
            found = await self._redis.hgetall(self._key(source, file))
        answers = []
        for domain, content in cast("dict[bytes, bytes]", found).items():
            kind, milliseconds = content.decode().split()
            answers.append(Answer(domain.decode(), kind == _ACCEPTED, int(milliseconds)))
        return answers

    async def _read(self, source: str) -> CookieFile | CookieFileError:
        return await asyncio.to_thread(self._read_now, source, self._paths[source])

    def _read_now(self, source: str, path: Path) -> CookieFile | CookieFileError:
        version = file_version(path)
        known = self._files.get(source)
        if known is None or known.version != version:
            known = self._files[source] = _Known(version, read_or_error(path))
        return known.content

    def _key(self, source: str, file: CookieFile) -> str:
        return self._redis.key(f"{_COOKIES}{source}:{file.digest}")


def read_or_error(path: Path) -> CookieFile | CookieFileError:
    """Read a cookies file; return why that is impossible."""
    try:
        return read_cookie_file(path)
    except CookieFileError as error:
        return error


def _log(source: str, status: CookiesStatus) -> None:
    state = cookies_state_name(status.state)
    log = logger.warning if status.remedy else logger.info
    log(
        Event.COOKIES_STATE,
        "the cookies of %s are %s. %s",
        *(source, state.lower(), status.summary),
        source=source,
        state=state,
    )


def status_of(
    source: str, file: CookieFile | CookieFileError, answers: Sequence[Answer] = ()
) -> CookiesStatus:
    """Return the status of the cookies of a source, given what sites have answered to them."""
    if isinstance(file, CookieFileError):
        return CookiesStatus(
            state=CookiesStatus.STATE_UNREADABLE,
            summary=f"Jobs run without the cookies of {source}: they are in a file that {file}",
            remedy=_RENEW,
        )
    needed = _LOGIN.get(source, ())
    expiry, now = file.expiry(needed), time.time()
    rejecting = sorted(answer.domain for answer in answers if not answer.accepted)
    status = CookiesStatus()
    if expiry is not None:
        status.expire_time.CopyFrom(Timestamp(seconds=expiry))
    if answers:
        status.answer_time.FromMilliseconds(max(answer.milliseconds for answer in answers))
    if expiry is not None and expiry <= now:
        status.state = CookiesStatus.STATE_EXPIRED
        status.summary, status.remedy = f"The cookies of {source} have expired.", _RENEW
    elif rejecting:
        status.state = CookiesStatus.STATE_REJECTED
        status.summary = f"{', '.join(rejecting)} does not accept the cookies of {source} any more."
        status.remedy = _RENEW
    elif expiry is not None and expiry <= now + EXPIRES_SOON.total_seconds():
        status.state = CookiesStatus.STATE_EXPIRING
        status.summary, status.remedy = f"The cookies of {source} expire within a week.", _RENEW
    elif answers:
        status.state = CookiesStatus.STATE_VALID
    elif not file.cookies or not file.has_login(needed):
        status.state = CookiesStatus.STATE_UNKNOWN
        status.summary = f"The cookies of {source} have none that says who is signed in."
        status.remedy = _RENEW
    elif expiry is None:
        status.state = CookiesStatus.STATE_UNKNOWN
        status.summary = (
            f"The cookies of {source} do not say when they expire, and no job has needed them yet."
        )
    else:
        status.state = CookiesStatus.STATE_VALID
    return status


def cookie_findings(found: Mapping[str, CookiesStatus]) -> Iterator[Finding]:
    """Yield what is wrong with the cookies of sources."""
    for status in found.values():
        if status.remedy:
            yield warning("cookies", status.summary, status.remedy)


def cookies_state_name(state: CookiesStatus.State.ValueType) -> str:
    """Return the name of a state without its prefix, as metrics and the log have it."""
    return CookiesStatus.State.Name(state).removeprefix("STATE_")
