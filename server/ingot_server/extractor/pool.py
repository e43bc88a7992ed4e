"""Runs yt-dlp for jobs: one child process per job.

    child --session--> resolve: Resolved or Entries --> fetch: Fetched --> killed, always

Only `child_main.py` imports yt-dlp. So whatever yt-dlp or a site does, the worker receives nothing
but lines of JSON (`session.py`).

Children are forked from a process that has done the imports (process/fork_server.py). With
`extractor_prewarm` there always is one, which saves the first job after a pause 0.8 s.

Each job has a directory of its own for what yt-dlp, deno and libraries keep, and it is removed with
the job. If jobs shared one, a job whose parser was taken over could leave the next ones a player's
code or an access token. What yt-dlp would find there saves little: it fetches the player of YouTube
for every video anyway, and deno starts in 10 ms with an empty directory.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import math
import os
import shutil
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urldefrag, urlsplit

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.egress.child_network import GuardedNetwork
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.extractor.failures import crashed
from ingot_server.extractor.protocol import Request
from ingot_server.extractor.session import Session, running_version
from ingot_server.process.child import ChildError, ChildProcess
from ingot_server.process.ffmpeg_program import ffmpeg_program
from ingot_server.process.fork_server import ForkServer
from ingot_server.process.limits import Limits
from ingot_server.section.requested import Section
from ingot_server.sponsorblock_categories import chosen_categories

_PROGRAM: Final = str(Path(__file__).with_name("child_main.py"))
# Deno's V8 reserves tens of GiB of address space; the child limits itself by extractor_memory.
_RESERVED_BYTES: Final = 1 << 38


class ExtractorPool:
    """Gives each job a child process, between `start` and `close`."""

    def __init__(
        self,
        settings: Settings,
        *,
        installed: Callable[[], Path | None] = lambda: None,
        guard: EgressProxy | None = None,
    ) -> None:
        """Create a pool.

        `installed` returns the directory of the yt-dlp in use, or None for the one released with
        Ingot; it is called before each job. With `guard`, which must have started, children reach
        no other proxy, where the kernel has network namespaces.
        """
        self._settings = settings
        self._installed = installed
        self._caches = ""
        self._started = False
        self._processes = ForkServer(
            _PROGRAM,
            limits=_limits(settings),
            arguments=self._arguments,
            connects=True,
            network=None if guard is None else GuardedNetwork(guard, _plugin_port(settings)),
        )

    @property
    def version(self) -> str:
        """The version of yt-dlp that the next session gets; empty if its directory has none."""
        place = self._installed()
        if place is None:
            return _released_version()
        for found in importlib.metadata.distributions(name="yt-dlp", path=[str(place)]):
            return found.version
        return ""

    async def start(self, caches: Path | None = None) -> None:
        """Fork children from now on.

        `caches` is where each job gets a directory that yt-dlp and Deno may fill; None means a
        temporary one. `close` removes it.
        """
        if caches is None:
            caches = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="ingot-extractor-"))
        self._caches = os.fspath(caches)
        self._started = True
        self._processes.start(keep=self._settings.extractor_prewarm)

    async def close(self) -> None:
        """End the process to fork from. Sessions that are open end with their own tasks."""
        self._started = False
        await self._processes.close()
        await asyncio.to_thread(shutil.rmtree, self._caches, ignore_errors=True)

    async def check(self) -> str:
        """Start a child and return the version of yt-dlp that it really runs. Raises Failure."""
        async with await self._child() as child:
            return await running_version(child, self._settings)

    @asynccontextmanager
    async def session(
        self,
        url: str,
        *,
        selection: Selection,
        options: IngestOptions,
        proxy_url: str,
        directory: Path | None = None,
        cookies_file: str = "",
        manifest: bool = False,
        preview: bool = False,
        po_tokens: bool = True,
    ) -> AsyncIterator[Session]:
        """Open a session for `url` in a child that reaches the network only through `proxy_url`.

        Afterwards the child and everything it started have ended. It can write only to `directory`;
        without one, the session is only for `resolve`, as is that of a `preview`. `cookies_file` is
        in Netscape's format; `manifest` says that the URL is known to be an HLS or DASH manifest.
        Without `po_tokens` none are made, whatever the settings say.
        Raises Failure UNSUPPORTED_URL for any scheme but http and https.
        """
        if not self._started:
            raise RuntimeError("The extractor pool is not started.")
        async with self._cache() as cache:
            request = self._request(
                *(_checked(url), selection, options, proxy_url, directory),
                *(cookies_file, manifest, preview, po_tokens, cache),
            )
            version = self.version
            async with await self._child() as child:
                yield Session(child, request, self._settings, version)

    @asynccontextmanager
    async def _cache(self) -> AsyncIterator[str]:
        cache = await asyncio.to_thread(tempfile.mkdtemp, prefix="cache-", dir=self._caches)
        try:
            yield cache
        finally:
            await asyncio.to_thread(shutil.rmtree, cache, ignore_errors=True)

    def _request(
        self,
        url: str,
        selection: Selection,
        options: IngestOptions,
        proxy_url: str,
        directory: Path | None,
        cookies_file: str,
        manifest: bool,
        preview: bool,
        po_tokens: bool,
        cache: str,
    ) -> Request:
        settings = self._settings
        return Request(
            url=url,
            manifest=manifest,
            audio_only=selection.mode == Selection.MODE_AUDIO_ONLY,
            max_height=selection.max_height if selection.HasField("max_height") else None,
            min_height=selection.min_height if selection.HasField("min_height") else None,
            audio_language=selection.audio_language,
            all_audio_languages=selection.all_audio_languages,
            video_codecs=list(selection.video_codecs),
            preview=preview,
            playlist=options.playlist,
            max_entries=options.max_entries or settings.max_playlist_entries,
            section=_section(selection),
            record_seconds=options.record_duration.ToTimedelta().total_seconds(),
            subtitle_languages=list(options.subtitle_languages),
            automatic_subtitles=options.automatic_subtitles,
            thumbnail=options.thumbnail,
            all_subtitles=options.all_subtitles,
            info=options.info,
            storyboard=options.storyboard,
            sponsorblock_categories=chosen_categories(settings.sponsorblock),
            sponsorblock_api=settings.sponsorblock_api,
            proxy=proxy_url,
            ca_file=str(Path(settings.egress_ca_file).absolute())
            if settings.egress_ca_file
            else "",
            cookies_file=cookies_file,
            po_tokens=po_tokens and settings.po_tokens,
            plugins=settings.extractor_plugins and str(Path(settings.extractor_plugins).absolute()),
            plugin_port=_plugin_port(settings),
            cache=cache,
            directory="" if directory is None else str(directory.absolute()),
            ffmpeg=ffmpeg_program(settings),
            deno=str(Path(sysconfig.get_path("scripts")) / "deno"),
            fragments=max(1, settings.fragments_at_once),
            timeout=settings.stall_timeout.total_seconds(),
            max_bytes=int(settings.max_media_size),
            memory_bytes=int(settings.extractor_memory),
        )

    async def _child(self) -> ChildProcess:
        try:
            return await self._processes.start_child()
        except ChildError as error:
            raise crashed(str(error)) from error

    def _arguments(self) -> Sequence[str]:
        place = self._installed()
        return (ffmpeg_program(self._settings), *(() if place is None else (str(place),)))


@functools.cache
def _released_version() -> str:
    # Workers report it every few seconds, and its file has 180 KB.
    return importlib.metadata.version("yt-dlp")


def _limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes=_RESERVED_BYTES,
        cpu=settings.extraction_timeout + settings.download_timeout,
        file_bytes=2 * int(settings.max_media_size),
        open_files=256,
    )


def _plugin_port(settings: Settings) -> int:
    return settings.extractor_plugin_port if settings.extractor_plugins else 0


def _section(selection: Selection) -> tuple[float, float | None, bool] | None:
    section = Section.of(selection)
    if section is None:
        return None
    return section.start, None if math.isinf(section.end) else section.end, section.exact


def _checked(url: str) -> str:
    """Return `url`, without its fragment if yt-dlp would read options from it."""
    if urlsplit(url).scheme.lower() not in {"http", "https"}:
        raise Failure(
            reason_pb2.REASON_UNSUPPORTED_URL,
            "The URL must begin with http:// or https://.",
            violations={"url": "must begin with http:// or https://"},
        )
    return urldefrag(url).url if "__youtubedl_smuggle" in url else url
