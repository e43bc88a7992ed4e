"""Tests a version of yt-dlp with the canaries: URLs that the operator knows to work.

A canary is treated like a job, except that nothing is stored: the extraction child resolves and
downloads it through an egress guard, with the cookies and the proxy of its source. Then it is
probed.

    a canary fails with the version in use
        -> the previous version succeeds with it, and with all that the version in use does
            -> it fails again with the version in use: roll back to the previous one
    otherwise nothing changes: the site or our address is the cause
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.result import Resolved
from ingot_server.extractor.versions import RELEASED, ExtractorError, Locked, Versions
from ingot_server.jobs.throttle import COOKIES_MAY_HELP
from ingot_server.log_events import Event
from ingot_server.probe.prober import Prober
from ingot_server.source_settings import SourceSettings
from ingot_server.sources import pick
from ingot_server.sources.source import Identity, Source

logger = EventLogger(__name__)

_MAX_DOWNLOAD: Final = timedelta(minutes=5)
_POLLS_PER_INTERVAL: Final = 4
_MAX_POLL_SECONDS: Final = 300.0

Sources = Mapping[str, SourceSettings]


@dataclass(frozen=True, slots=True)
class CanaryCheck:
    """The result of testing the version in use."""

    version: str
    failures: Mapping[str, Failure]
    """Failures by canary; empty if all of them work."""
    back_to: str = ""
    """The version that was rolled back to; empty if none was."""


def canaries(settings: Settings) -> Sequence[str]:
    """Return the URLs in INGOT_EXTRACTOR_CANARIES."""
    return settings.extractor_canaries.replace(",", " ").split()


async def try_version(
    directory: Path | None, version: str, urls: Sequence[str], settings: Settings, sources: Sources
) -> Mapping[str, Failure]:
    """Test the yt-dlp in `directory` (None: the released one); return the failures by URL.

    Raises Failure if it does not start, or is not `version`.
    """
    settings = settings.replace(download_timeout=min(settings.download_timeout, _MAX_DOWNLOAD))
    async with _version_test(directory, settings) as test:
        running = await test.extractor.check()
        if running != version:
            raise Failure(
                reason_pb2.REASON_EXTRACTOR_CRASHED,
                f"yt-dlp {version} does not start: {running} ran in its place.",
            )
        return {url: found for url in urls if (found := await test.failure_with(url, sources))}


async def check(versions: Versions, settings: Settings, sources: Sources) -> CanaryCheck:
    """Test the version in use with the canaries; roll back to the previous one if that is better.

    Raises ExtractorError if the rollback fails, and Failure if the released yt-dlp does not start.
    """
    state = versions.in_use()
    version = versions.number(state.current)
    urls = canaries(settings)

    async def failing(name: str, these: Sequence[str]) -> Mapping[str, Failure]:
        directory = None if name == RELEASED else versions.directory / name
        try:
            return await try_version(directory, versions.number(name), these, settings, sources)
        except Failure as failure:
            return dict.fromkeys(these, failure)

    failures = await failing(state.current, urls)
    if not failures or state.previous == state.current:
        return CanaryCheck(version, failures)
    before = await failing(state.previous, urls)
    if not before.keys() < failures.keys():
        return CanaryCheck(version, failures)
    # The site may have been unavailable for just that moment.
    regained = [url for url in failures if url not in before]
    again = await failing(state.current, regained)
    if len(again) < len(regained):
        return CanaryCheck(version, failures)
    with versions.locked():
        if versions.in_use() != state:
            return CanaryCheck(version, failures)
        versions.rollback()
    logger.warning(
        Event.EXTRACTOR_ROLLED_BACK,
        "yt-dlp %s fails with canaries that work with %s, which is in use again: %s",
        *(version, versions.version, describe(again)),
    )
    return CanaryCheck(version, failures, back_to=versions.version)


async def keep_checking(versions: Versions, settings: Settings, sources: Sources) -> None:
    """Run the check once per `extractor_check_interval`, shared by all users of the directory.

    Without a previous version there is nothing to roll back to, so nothing is tested.
    """
    interval = settings.extractor_check_interval
    while interval and canaries(settings):
        await asyncio.sleep(min(interval.total_seconds() / _POLLS_PER_INTERVAL, _MAX_POLL_SECONDS))
        state = versions.in_use()
        if state.current == state.previous:
            continue
        try:
            with versions.checking(interval) as is_due:
                if is_due:
                    checked = await check(versions, settings, sources)
                    if checked.failures and not checked.back_to:
                        logger.warning(
                            Event.CANARIES_FAILED, "canaries fail: %s", describe(checked.failures)
                        )
        except Locked:
            continue
        except (ExtractorError, OSError) as error:
            logger.warning(Event.CANARIES_NOT_RUN, "yt-dlp could not be checked: %s", error)


def describe(failures: Mapping[str, Failure]) -> str:
    """Return each canary and its failure on one line."""
    return "; ".join(
        f"{url}: {reason_name(failure.reason)}: {failure.message}"
        for url, failure in failures.items()
    )


class _VersionTest:
    """One version of yt-dlp with everything that a test of it needs."""

    def __init__(
        self, extractor: ExtractorPool, egress: EgressProxy, prober: Prober, folder: Path
    ) -> None:
        self.extractor = extractor
        self._egress = egress
        self._prober = prober
        self._folder = folder

    async def failure_with(self, url: str, sources: Sources) -> Failure | None:
        try:
            source, identity = pick(url)
            own = sources[source.name]
            try:
                await self._download(source, identity, own.proxy, None)
            except Failure as failure:
                if own.cookies is None or failure.reason not in COOKIES_MAY_HELP:
                    raise
                await self._download(source, identity, own.proxy, own.cookies)
        except Failure as failure:
            return failure
        return None

    async def _download(
        self, source: Source, identity: Identity, proxy: str, cookies: Path | None
    ) -> None:
        egress = self._egress.grant("canary", upstream=proxy)
        files, jar = await asyncio.to_thread(self._prepare, cookies)
        try:
            async with self.extractor.session(
                identity.url,
                selection=Selection(mode=Selection.MODE_BEST),
                options=IngestOptions(),
                proxy_url=egress.proxy_url,
                directory=files,
                cookies_file=jar,
                manifest=source.is_manifest,
            ) as session:
                found = await session.resolve()
                if isinstance(found, Resolved):
                    fetched = await session.fetch(files, lambda _done, _total: None)
                    await self._prober.probe(fetched.path)
                elif not found.urls:
                    raise Failure(reason_pb2.REASON_NOT_MEDIA, "The list is empty.")
        finally:
            egress.revoke()
            await asyncio.to_thread(shutil.rmtree, files.parent, ignore_errors=True)

    def _prepare(self, cookies: Path | None) -> tuple[Path, str]:
        """Make a directory for files, and copy the cookies next to it: yt-dlp writes to them."""
        place = Path(tempfile.mkdtemp(dir=self._folder))
        files, jar = place / "files", place / "cookies"
        files.mkdir()
        if cookies is None:
            return files, ""
        shutil.copyfile(cookies, jar)
        return files, str(jar)


@asynccontextmanager
async def _version_test(directory: Path | None, settings: Settings) -> AsyncIterator[_VersionTest]:
    egress = EgressProxy(settings)
    extractor = ExtractorPool(
        # A version that does not start is a result of the test, not a warning.
        settings.replace(extractor_prewarm=False),
        installed=lambda: directory,
        guard=egress,
    )
    with tempfile.TemporaryDirectory(prefix="ingot-canary-") as folder:
        await egress.start()
        try:
            await extractor.start()
            yield _VersionTest(extractor, egress, Prober(settings), Path(folder))
        finally:
            await extractor.close()
            await egress.close()
