"""The extraction sessions of jobs: scratch folder, egress grant, cookies, and the second try."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from ingot.v1.job_pb2 import IngestOptions
from ingot_server.cookie_health import CookieHealth, SourceCookies
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.session import Session
from ingot_server.jobs.throttle import COOKIES_MAY_HELP
from ingot_server.log_events import Event
from ingot_server.pipeline.attempt import Attempt
from ingot_server.pipeline.job_egress import JobEgress
from ingot_server.transfer.scratch import Scratch

logger = EventLogger(__name__)

_Result = TypeVar("_Result")

_FORBIDDEN: Final = "403"


class _PoTokensRefused(Exception):
    """The media server refused URLs with PO tokens."""


class ExtractionSessions:
    """Opens sessions of the extractor for the jobs of a worker."""

    def __init__(
        self,
        extractor: ExtractorPool,
        cookie_health: CookieHealth,
        egress: JobEgress,
        scratch: Scratch,
    ) -> None:
        self._extractor = extractor
        self._cookie_health = cookie_health
        self._egress = egress
        self._scratch = scratch

    async def run(
        self,
        attempt: Attempt,
        options: IngestOptions,
        use: Callable[[Session, Path], Awaitable[_Result]],
        *,
        is_manifest: bool = False,
        preview: bool = False,
    ) -> _Result:
        """Return the result of `use`, which gets a session and a scratch folder of its own.

        `is_manifest` says that the URL is known to be that of an HLS or DASH manifest. If the
        source asks for cookies and has some, `use` runs a second time with them; otherwise cookies
        are never sent. The session of a `preview` is only for `resolve`.
        """
        is_manifest = is_manifest or attempt.source.is_manifest
        try:
            return await self._run_once(attempt, options, use, is_manifest, preview, None)
        except Failure as failure:
            if failure.reason not in COOKIES_MAY_HELP:
                raise
            cookies = await self._cookie_health.of(attempt.source.name)
            if cookies is None:
                raise
        return await self._run_once(attempt, options, use, is_manifest, preview, cookies)

    async def _run_once(
        self,
        attempt: Attempt,
        options: IngestOptions,
        use: Callable[[Session, Path], Awaitable[_Result]],
        is_manifest: bool,
        preview: bool,
        cookies: SourceCookies | None,
    ) -> _Result:
        """Run `use` in one session; if the media is refused to its PO tokens, without any."""
        shared = (attempt, options, use, is_manifest, preview, cookies)
        try:
            return await self._in_session(*shared, po_tokens=True)
        except _PoTokensRefused as refused:
            logger.warning(
                Event.PO_TOKENS_REFUSED, "the job goes on without PO tokens: %s", refused.__cause__
            )
        return await self._in_session(*shared, po_tokens=False)

    async def _in_session(
        self,
        attempt: Attempt,
        options: IngestOptions,
        use: Callable[[Session, Path], Awaitable[_Result]],
        is_manifest: bool,
        preview: bool,
        cookies: SourceCookies | None,
        *,
        po_tokens: bool,
    ) -> _Result:
        job = attempt.job
        async with (
            self._egress.granted(attempt) as proxy_url,
            self._scratch.folder(job.id, job.attempt) as folder,
            self._extractor.session(
                attempt.identity.requested_url,
                selection=job.selection,
                options=options,
                proxy_url=proxy_url,
                directory=folder,
                cookies_file=await _copy_cookies(folder, cookies),
                manifest=is_manifest,
                preview=preview,
                po_tokens=po_tokens,
            ) as session,
        ):
            try:
                result = await use(session, folder)
            except Failure as failure:
                if session.cookies_rejected:
                    await self._record(attempt, cookies, accepted=False)
                if session.has_po_tokens and failure.metadata.get("http_status") == _FORBIDDEN:
                    raise _PoTokensRefused from failure
                raise
            await self._record(attempt, cookies, accepted=not session.cookies_rejected)
            return result

    async def _record(
        self, attempt: Attempt, cookies: SourceCookies | None, *, accepted: bool
    ) -> None:
        if cookies is None:
            return
        # The outcome of the job matters more than what the page of sources shows.
        with contextlib.suppress(Failure):
            await self._cookie_health.record(
                cookies, attempt.identity.requested_url, accepted=accepted
            )


async def _copy_cookies(folder: Path, cookies: SourceCookies | None) -> str:
    """Return a copy of the cookies file, because yt-dlp writes to it; empty if there is none."""
    if cookies is None:
        return ""
    return str(await asyncio.to_thread(shutil.copyfile, cookies.path, folder / "cookies"))
