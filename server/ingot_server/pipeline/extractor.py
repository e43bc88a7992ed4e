"""Has yt-dlp find out what a page's media is, and fetch it: one process for each job.

    spare child --session--> resolve: Resolved or Entries --> fetch: Fetched --> killed, always

yt-dlp is imported by `extractor_child.py` alone, so nothing that it or a site does reaches the
worker but lines of JSON. What follows from the ways in which that process can end:

- it tells a failure: a reason from `extraction_failures.py`;
- it dies or outgrows its memory: EXTRACTOR_CRASHED;
- it moves too few bytes for stall_timeout: STALLED; it takes too long in all: STAGE_TIMEOUT.

While the extractor is started one process that has its imports done waits (1.3 s saved), and serves
one job like every other. Its cache directory is its worker's and goes with it.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urldefrag, urlsplit

import imageio_ffmpeg

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Chapter, Extraction, Selection, SideFile
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.pipeline.child import Child, ChildError, Limits, ending
from ingot_server.pipeline.extraction_failures import Report, failure_of_report

logger = logging.getLogger(__name__)

_PROGRAM: Final = str(Path(__file__).with_name("extractor_child.py"))
# Deno's V8 reserves tens of GiB of address space; the child limits itself by extractor_memory.
_RESERVED_BYTES: Final = 1 << 38
_LOOKS: Final = 8


@dataclass(frozen=True, slots=True)
class Resolved:
    """One media, before a byte of it came. Texts are empty and numbers None when unknown."""

    extractor: str
    extractor_id: str
    title: str
    description: str
    tags: tuple[str, ...]
    uploader: str
    publish_time: datetime | None
    duration_seconds: float | None
    thumbnail_url: str
    page_url: str
    chapters: tuple[Chapter, ...]
    is_live: bool
    size_bytes: int | None
    extraction: Extraction


@dataclass(frozen=True, slots=True)
class Entries:
    """A playlist, channel or album: at most max_entries + 1 URLs, and how many it says it has."""

    title: str
    extractor: str
    extractor_id: str
    urls: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class FetchedSideFile:
    """A file beside the media, in the directory given to `fetch`."""

    path: Path
    kind: SideFile.Kind.ValueType
    language: str
    automatic: bool
    content_type: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """One whole file, merged, and what was asked for besides."""

    path: Path
    side_files: tuple[FetchedSideFile, ...]


class Extractor:
    """Gives each job a process; `start` and `close` frame its life."""

    def __init__(
        self, settings: Settings, *, installed: Callable[[], Path | None] = lambda: None
    ) -> None:
        """`installed` names the directory of a newer yt-dlp; None: the one released with Ingot."""
        self._settings = settings
        self._installed = installed
        self._cache = ""
        self._started = False
        self._spare: tuple[Path | None, Child] | None = None
        self._refilling: asyncio.Task[None] | None = None

    @property
    def version(self) -> str:
        """Of the yt-dlp that the next session gets."""
        place = self._installed()
        if place is None:
            return importlib.metadata.version("yt-dlp")
        for found in importlib.metadata.distributions(name="yt-dlp", path=[str(place)]):
            return found.version
        return ""

    async def start(self) -> None:
        """Makes one process ready. Raises nothing when that cannot be done now."""
        self._cache = await asyncio.to_thread(tempfile.mkdtemp, prefix="ingot-extractor-")
        self._started = True
        await self._refill()

    async def close(self) -> None:
        """Ends what is kept ready. Sessions under way end with their own tasks."""
        self._started = False
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.wait([self._refilling])
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare[1].close()
        await asyncio.to_thread(shutil.rmtree, self._cache, ignore_errors=True)

    @asynccontextmanager
    async def session(
        self,
        url: str,
        *,
        selection: Selection,
        options: IngestOptions,
        proxy_url: str,
        cookies_file: str = "",
    ) -> AsyncIterator[Session]:
        """A process for `url`, through the guard at `proxy_url`; its group is gone afterwards.

        `cookies_file` is the installation's, in Netscape's format. Raises Failure UNSUPPORTED_URL
        for anything but http and https.
        """
        if not self._started:
            raise RuntimeError("Extractor is not started.")
        request = self._request(_checked(url), selection, options, proxy_url, cookies_file)
        version = self.version
        try:
            child = await self._take()
        except ChildError as error:
            raise _crashed(str(error)) from error
        async with child:
            self._refill_later()
            yield Session(child, request, self._settings, version)

    def _request(
        self,
        url: str,
        selection: Selection,
        options: IngestOptions,
        proxy_url: str,
        cookies_file: str,
    ) -> dict[str, object]:
        settings = self._settings
        return {
            "url": url,
            "audio_only": selection.mode == Selection.MODE_AUDIO_ONLY,
            "max_height": selection.max_height if selection.HasField("max_height") else None,
            "playlist": options.playlist,
            "max_entries": options.max_entries or settings.max_playlist_entries,
            "record_seconds": options.record_duration.ToTimedelta().total_seconds(),
            "subtitle_languages": list(options.subtitle_languages),
            "automatic_subtitles": options.automatic_subtitles,
            "thumbnail": options.thumbnail,
            "proxy": proxy_url,
            "ca_file": os.path.abspath(settings.egress_ca_file) if settings.egress_ca_file else "",  # noqa: PTH100
            "cookies_file": cookies_file,
            "plugins": settings.extractor_plugins,
            "cache": self._cache,
            "ffmpeg": imageio_ffmpeg.get_ffmpeg_exe(),
            "deno": os.path.join(sysconfig.get_path("scripts"), "deno"),  # noqa: PTH118
            "fragments": max(1, settings.fragments_at_once),
            "timeout": settings.stall_timeout.total_seconds(),
            "max_bytes": int(settings.max_media_size),
            "memory_bytes": int(settings.extractor_memory),
        }

    async def _take(self) -> Child:
        spare, self._spare = self._spare, None
        if spare is not None:
            place, child = spare
            if child.running and place == self._installed():
                return child
            await child.close()
        return (await self._launch())[1]

    async def _launch(self) -> tuple[Path | None, Child]:
        settings, place = self._settings, self._installed()
        limits = Limits(
            memory_bytes=_RESERVED_BYTES,
            cpu=settings.extraction_timeout + settings.download_timeout,
            file_bytes=2 * int(settings.max_media_size),
            open_files=256,
        )
        arguments = [] if place is None else [str(place)]
        child = await Child.start(sys.executable, "-I", _PROGRAM, *arguments, limits=limits)
        return place, child

    def _refill_later(self) -> None:
        idle = self._refilling is None or self._refilling.done()
        if self._started and self._spare is None and idle:
            self._refilling = asyncio.create_task(self._refill())

    async def _refill(self) -> None:
        try:
            spare = await self._launch()
        except ChildError as error:
            logger.warning("no process could be made ready for extraction: %s", error)
            return
        if self._started and self._spare is None:
            self._spare = spare
        else:
            await spare[1].close()


class Session:
    """One job's process: `resolve`, then `fetch`. Not to be used again after a failure."""

    def __init__(
        self, child: Child, request: dict[str, object], settings: Settings, version: str
    ) -> None:
        self._child = child
        self._request = request
        self._settings = settings
        self._version = version

    async def resolve(self) -> Resolved | Entries:
        """What is behind the URL, without a byte of media. Safe to cancel. Raises Failure."""
        limit = self._settings.extraction_timeout
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send(self._request)
                answer = await self._receive()
        except TimeoutError as error:
            raise _overdue("RESOLVING", limit, "INGOT_EXTRACTION_TIMEOUT") from error
        if answer["kind"] == "entries":
            return Entries(
                title=answer["title"],
                extractor=answer["extractor"],
                extractor_id=answer["extractor_id"],
                urls=tuple(answer["urls"]),
                total=answer["total"],
            )
        return _resolved(answer, self._version)

    async def fetch(self, directory: Path, progress: Callable[[int, int | None], None]) -> Fetched:
        """Receives all of it into `directory`, an empty one; `resolve` comes first.

        `progress` gets the bytes received of all formats together, and of how many when known.
        """
        limit = self._settings.download_timeout
        watch = _Watch(directory, self._settings)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send({"directory": os.fspath(directory)})
                while True:
                    answer = await self._next(watch)
                    if answer["kind"] != "progress":
                        break
                    watch.done = answer["done"]
                    progress(answer["done"], answer["total"])
        except TimeoutError as error:
            raise _overdue("DOWNLOADING", limit, "INGOT_DOWNLOAD_TIMEOUT") from error
        path = _inside(directory, answer["path"])
        size = path.stat().st_size
        if size > self._settings.max_media_size:
            raise Failure(
                reason_pb2.REASON_TOO_LARGE,
                f"The media is {size} bytes long; INGOT_MAX_MEDIA_SIZE allows fewer.",
                metadata={"limit_bytes": str(int(self._settings.max_media_size))},
            )
        progress(size, size)
        return Fetched(path, tuple(_side_file(directory, one) for one in answer["side_files"]))

    async def _next(self, watch: _Watch) -> dict[str, Any]:
        reading = asyncio.create_task(self._receive())
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=watch.interval)
                watch.look()
            return await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _receive(self) -> dict[str, Any]:
        try:
            answer = await self._child.receive()
        except ChildError as error:
            raise _crashed(str(error)) from error
        if answer is None:
            code = await self._child.wait()
            logger.warning("extraction %s: %s", ending(code), self._child.stderr[-2000:])
            raise _crashed(
                "it outgrew INGOT_EXTRACTOR_MEMORY" if code == 70 else f"it was {ending(code)}"
            )
        if answer["kind"] == "failed":
            told = {key: value for key, value in answer.items() if key != "kind"}
            failure = failure_of_report(Report(**{**told, "kinds": tuple(told["kinds"])}))
            logger.info("extraction failed: %r: %s", failure, answer["message"])
            raise failure
        return answer


class _Watch:
    """Whether bytes move: those received, and those on the disk while ffmpeg writes."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.done = 0
        self._directory = directory
        self._timeout = settings.stall_timeout.total_seconds()
        self._due = max(1, int(settings.stall_rate * self._timeout))
        self._clock = asyncio.get_running_loop().time
        self.interval = self._timeout / _LOOKS
        self._next = 0.0
        self._mark, self._since = 0, self._clock()

    def look(self) -> None:
        """Raises Failure STALLED when too little moved for stall_timeout."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self.interval
        moved = self.done + sum(
            entry.stat().st_size for entry in os.scandir(self._directory) if entry.is_file()
        )
        if abs(moved - self._mark) >= self._due:
            self._mark, self._since = moved, now
        elif now - self._since >= self._timeout:
            raise Failure(
                reason_pb2.REASON_STALLED,
                f"The source sent nothing, or nearly nothing, for {self._timeout:g} s.",
            )


def _checked(url: str) -> str:
    """`url` without its fragment where yt-dlp would take orders from it."""
    if urlsplit(url).scheme.lower() not in {"http", "https"}:
        raise Failure(
            reason_pb2.REASON_UNSUPPORTED_URL,
            "Only http and https URLs are extracted.",
            violations={"url": "Its scheme is neither http nor https."},
        )
    return urldefrag(url).url if "__youtubedl_smuggle" in url else url


def _resolved(answer: dict[str, Any], version: str) -> Resolved:
    chapters = []
    for found in answer["chapters"]:
        chapter = Chapter(title=found["title"])
        chapter.start.FromTimedelta(timedelta(seconds=found["start"]))
        chapter.end.FromTimedelta(timedelta(seconds=found["end"]))
        chapters.append(chapter)
    moment = answer["publish_time"]
    return Resolved(
        **{
            name: answer[name]
            for name in (
                *("extractor", "extractor_id", "title", "description", "uploader"),
                *("thumbnail_url", "page_url", "is_live", "size_bytes"),
            )
        },
        tags=tuple(answer["tags"]),
        publish_time=None if moment is None else datetime.fromtimestamp(moment, UTC),
        duration_seconds=answer["duration"],
        chapters=tuple(chapters),
        extraction=Extraction(
            extractor=answer["extractor"],
            extractor_version=version,
            format_id=answer["format_id"],
            format_reason=answer["format_reason"],
        ),
    )


def _side_file(directory: Path, answer: dict[str, Any]) -> FetchedSideFile:
    return FetchedSideFile(
        path=_inside(directory, answer["path"]),
        kind=SideFile.Kind.Value(f"KIND_{answer['kind']}"),
        language=answer["language"],
        automatic=answer["automatic"],
        content_type=answer["content_type"],
    )


def _inside(directory: Path, answer: str) -> Path:
    """The path the child names: a real file in `directory`, whatever it says."""
    path = directory / Path(answer).name
    if path.is_symlink() or not path.is_file():
        raise _crashed("it named a file that is not there")
    return path


def _crashed(what: str) -> Failure:
    return Failure(reason_pb2.REASON_EXTRACTOR_CRASHED, f"The extractor's process failed: {what}.")


def _overdue(stage: str, limit: timedelta, setting: str) -> Failure:
    return Failure(
        reason_pb2.REASON_STAGE_TIMEOUT,
        f"This took longer than the limit of {limit.total_seconds():g} s. {setting} sets it.",
        metadata={"stage": stage},
    )
