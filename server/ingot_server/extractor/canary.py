"""Tries a version of yt-dlp on the canaries: URLs of which the operator knows that they work.

A canary goes the whole way of a job but for the bucket: resolved by the extraction child, received
and probed, through an egress guard, with the cookies and the proxy of its source. Nothing is kept.

    a canary fails with the version in use
        -> the previous one brings in all that it does, and this one too
            -> it fails again with the version in use: back to the previous one
    else nothing changes: it is the site, or our address
"""

from __future__ import annotations

import asyncio
import logging
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
from ingot_server.extractor.pool import Extractor
from ingot_server.extractor.protocol import Resolved
from ingot_server.extractor.versions import RELEASED, ExtractorError, Locked, Versions
from ingot_server.jobs.throttle import COOKIES_MAY_HELP
from ingot_server.probe.prober import Prober
from ingot_server.source_settings import SourceSettings
from ingot_server.sources import pick
from ingot_server.sources.source import Identity, Source

logger = logging.getLogger(__name__)

_LONGEST: Final = timedelta(minutes=5)
_LOOKS: Final = 4
_LONGEST_PAUSE: Final = 300.0

Sources = Mapping[str, SourceSettings]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the version in use found."""

    version: str
    failures: Mapping[str, Failure]
    """By canary; empty: all of them work."""
    back_to: str = ""
    """The version that is in use instead, since it brings in what fails here."""


def canaries(settings: Settings) -> Sequence[str]:
    """The URLs that INGOT_EXTRACTOR_CANARIES names."""
    return settings.extractor_canaries.replace(",", " ").split()


async def try_version(
    place: Path | None, version: str, urls: Sequence[str], settings: Settings, sources: Sources
) -> Mapping[str, Failure]:
    """Which of `urls` the yt-dlp in `place` (None: the released one) cannot bring in, and why.

    Raises Failure when it does not even start, or is not `version`.
    """
    settings = settings.replace(download_timeout=min(settings.download_timeout, _LONGEST))
    async with _trial(place, settings) as trial:
        running = await trial.extractor.check()
        if running != version:
            raise Failure(
                reason_pb2.REASON_EXTRACTOR_CRASHED,
                f"yt-dlp {version} does not start: {running} ran in its place.",
            )
        return {url: found for url in urls if (found := await trial.fails(url, sources))}


async def check(versions: Versions, settings: Settings, sources: Sources) -> Checked:
    """Tries the canaries with the version in use; goes back to the previous one if that is better.

    Raises ExtractorError when the change cannot be made, and Failure when Ingot's own yt-dlp does
    not start.
    """
    state = versions.in_use()
    version = versions.number(state.current)
    urls = canaries(settings)

    async def failing(name: str, these: Sequence[str]) -> Mapping[str, Failure]:
        place = None if name == RELEASED else versions.directory / name
        try:
            return await try_version(place, versions.number(name), these, settings, sources)
        except Failure as failure:
            return dict.fromkeys(these, failure)

    failures = await failing(state.current, urls)
    if not failures or state.previous == state.current:
        return Checked(version, failures)
    before = await failing(state.previous, urls)
    if not before.keys() < failures.keys():
        return Checked(version, failures)
    # The site may have been away for just that time.
    regained = [url for url in failures if url not in before]
    again = await failing(state.current, regained)
    if len(again) < len(regained):
        return Checked(version, failures)
    with versions.locked():
        if versions.in_use() != state:
            return Checked(version, failures)
        versions.rollback()
    logger.warning(
        "yt-dlp %s fails where %s does not, which is in use again: %s",
        *(version, versions.version, describe(again)),
    )
    return Checked(version, failures, back_to=versions.version)


async def keep_checking(versions: Versions, settings: Settings, sources: Sources) -> None:
    """Checks once in `extractor_check_interval`, as one of those who share the directory.

    Only what can be undone is checked: while there is no previous version nothing is asked.
    """
    interval = settings.extractor_check_interval
    while interval and canaries(settings):
        await asyncio.sleep(min(interval.total_seconds() / _LOOKS, _LONGEST_PAUSE))
        state = versions.in_use()
        if state.current == state.previous:
            continue
        try:
            with versions.checking(interval) as is_turn:
                if is_turn:
                    checked = await check(versions, settings, sources)
                    if checked.failures and not checked.back_to:
                        logger.warning("canaries fail: %s", describe(checked.failures))
        except Locked:
            continue
        except (ExtractorError, OSError) as error:
            logger.warning("yt-dlp cannot be checked: %s", error)


def describe(failures: Mapping[str, Failure]) -> str:
    """Each canary and its reason, on one line."""
    return "; ".join(
        f"{url}: {reason_name(failure.reason)}: {failure.message}"
        for url, failure in failures.items()
    )


class _Trial:
    """One version, ready to be tried."""

    def __init__(
        self, extractor: Extractor, egress: EgressProxy, prober: Prober, folder: Path
    ) -> None:
        self.extractor = extractor
        self._egress = egress
        self._prober = prober
        self._folder = folder

    async def fails(self, url: str, sources: Sources) -> Failure | None:
        try:
            source, identity = pick(url)
            own = sources[source.name]
            try:
                await self._bring(source, identity, own.proxy, None)
            except Failure as failure:
                if own.cookies is None or failure.reason not in COOKIES_MAY_HELP:
                    raise
                await self._bring(source, identity, own.proxy, own.cookies)
        except Failure as failure:
            return failure
        return None

    async def _bring(
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
        """A directory for files, and beside it a copy of the cookies: yt-dlp writes to them."""
        place = Path(tempfile.mkdtemp(dir=self._folder))
        files, jar = place / "files", place / "cookies"
        files.mkdir()
        if cookies is None:
            return files, ""
        shutil.copyfile(cookies, jar)
        return files, str(jar)


@asynccontextmanager
async def _trial(place: Path | None, settings: Settings) -> AsyncIterator[_Trial]:
    egress = EgressProxy(settings)
    extractor = Extractor(settings, installed=lambda: place, prewarm=False)
    with tempfile.TemporaryDirectory(prefix="ingot-canary-") as folder:
        await egress.start()
        try:
            await extractor.start()
            yield _Trial(extractor, egress, Prober(settings), Path(folder))
        finally:
            await extractor.close()
            await egress.close()
