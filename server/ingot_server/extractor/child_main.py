"""The program that runs yt-dlp: one process per job, forked or started by `pool.py`.

    child_main.py FFMPEG [DIRECTORY]      an updated yt-dlp is in DIRECTORY: versions.py

    request   {"url": ..., "proxy": ..., ...}: `Request` has all fields
    response  {"kind": "resolved", ...} or {"kind": "entries", ...}
    request   {"directory": ..., "media": true}
    response  {"kind": "progress", "done": ..., "total": ...} any number of times,
              {"kind": "fetched", "path": ..., ...}; without "media" neither of these,
              {"kind": "side_file", "path": ..., ...} for each one asked for that could be had,
              {"kind": "missing", "message": ...} for what could not,
              {"kind": "done"}
    and       at any point before the last one
              {"kind": "cookies_rejected"}, {"kind": "po_tokens", "minted": ..., "failure": ...}
    or        {"kind": "failed", ...}, at any point: a `Report` of protocol.py

The response to an empty request, {}, is {"kind": "version", "version": ...}, and the child ends.

What a caller or a site sends is a value in a dictionary, never an option, a command or a file name.
Only yt-dlp's own downloaders are used. ffmpeg reads files that exist already, opens no others and
has no network. Only ffmpeg and deno can be started, and sockets reach only the guard: sandbox.py.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

# CPython keeps a .pyc file that a file size limit has cut short, and fails on it from then on.
_BYTECODE_BYTES: Final = 16 << 20


def _keep_bytecode_whole() -> None:
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    sys.dont_write_bytecode = 0 <= size < _BYTECODE_BYTES


_keep_bytecode_whole()
# yt-dlp would load this if it is installed, and all of cryptography with it, 6 MiB, only to read
# the cookies of browsers.
sys.modules["secretstorage"] = None  # type: ignore[assignment] # so that it seems to be missing
_FFMPEG, *_UPDATED = sys.argv[1:]
if _UPDATED:
    sys.path.insert(0, _UPDATED[0])
    try:
        import yt_dlp
    except Exception as error:
        # If its files are damaged, the yt-dlp released with Ingot runs the job.
        sys.stderr.write(f"{_UPDATED[0]} is damaged: {error!r}\n")
        os.execv(sys.executable, sys.orig_argv[:-1])  # noqa: S606 - this program

import yt_dlp
import yt_dlp.extractor
import yt_dlp.globals
import yt_dlp.utils
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

from ingot_server.extractor import formats, radio, sandbox, sponsorblock, tls_contexts
from ingot_server.extractor.cookie_rejection import asks_to_sign_in, signed_out
from ingot_server.extractor.error_report import VERSION, LastFailure, Refused, report_of
from ingot_server.extractor.extracted_identity import identity
from ingot_server.extractor.fragments import replace_downloaders
from ingot_server.extractor.info import listed, resolved
from ingot_server.extractor.merging import choose_containers_by_content
from ingot_server.extractor.offer import offer
from ingot_server.extractor.po_tokens import PoTokens, register_provider
from ingot_server.extractor.presentation import TRACK, LiveStream, Track
from ingot_server.extractor.protocol import Request
from ingot_server.extractor.recording import record, recordable
from ingot_server.extractor.renditions import correct_formats
from ingot_server.extractor.shortfall import Announced, shortfall, watch_youtube
from ingot_server.extractor.subtitles import keep_subtitle_names, side_files
from ingot_server.extractor.unchanged_urls import keep_urls
from ingot_server.extractor.warm_up import warm_up
from ingot_server.live_streams import is_live_stream

if TYPE_CHECKING:
    from ingot_server.extractor.section_fetch import SectionDownload

_PROGRESS_SECONDS: Final = 0.1
# The first read size, which yt-dlp adapts to the speed. From its default of 1 KiB, growing it takes
# half of the time of a 500 KB fragment.
_READ_BYTES: Final = 128 << 10
# How deep lists of one entry may be nested.
_MAX_NESTED_LISTS: Final = 3

_output = 1
"""The descriptor of the responses."""
_extractors: dict[str, Any] = {}
"""yt-dlp's own extractors by key, in its order. It would sort them out for each job in 40 ms."""


class Upcoming(Exception):
    """The media is announced and not available yet."""


class TooLarge(Exception):
    """The media has more bytes than are accepted."""


def _log(message: str) -> None:
    """Write a line that the worker logs if this process fails."""
    sys.stderr.write(f"{message}\n")


class Downloader(yt_dlp.YoutubeDL):  # type: ignore[misc] # untyped
    """A YoutubeDL that remembers what was said of formats, what arrived and what failed."""

    failure: LastFailure | None = None
    fetching = False
    """Whether media is being downloaded; then a request that the guard refused is not retried."""
    ignores_media_types = False
    """Whether a response is read as a manifest although its type says audio or video."""

    def __init__(self, *args: Any, po_tokens: PoTokens, **options: Any) -> None:
        self.po_tokens = po_tokens
        self.tracks: list[Track] = []
        self.failures: dict[str, LastFailure] = {}
        """The last request for each URL that has not succeeded since."""
        self.endless = set[str]()
        """The URLs of responses that have no end."""
        self.announced = Announced()
        self.section: SectionDownload | None = None
        super().__init__(*args, **options)

    def report_warning(self, message: str, only_once: bool = False) -> None:
        self.announced.note(message)
        if signed_out(message):
            _send(kind="cookies_rejected")
        super().report_warning(message, only_once)

    def write_debug(self, message: str, only_once: bool = False) -> None:
        self.announced.note(message)
        super().write_debug(message, only_once)

    def urlopen(self, req: Any) -> Any:
        url = req if isinstance(req, str) else req.url
        try:
            response = super().urlopen(req)
        except yt_dlp.networking.exceptions.RequestError as error:
            self.failure = self.failures[url] = LastFailure.of(error, url)
            if self.fetching and self.failure.refused:
                raise Refused(str(error)) from error
            raise
        self.failures.pop(url, None)
        if is_live_stream(response.headers):
            self.endless.add(response.url)
        kind = response.headers.get("Content-Type", "").lower()
        if (
            self.ignores_media_types
            and kind.startswith(("audio/", "video/"))
            and "mpegurl" not in kind
        ):
            response.headers.replace_header("Content-Type", "text/plain")
        return response


class StderrLogger:
    """yt-dlp's logger: warnings and errors go to standard error, the rest is dropped."""

    def debug(self, _message: str) -> None: ...
    def info(self, _message: str) -> None: ...
    def warning(self, message: str) -> None:
        _log(message[:500])

    def error(self, message: str) -> None:
        _log(message[:500])


class ProgressHook:
    """Reports the bytes of all formats together, as one number that only grows."""

    def __init__(self, info: Mapping[str, Any], max_bytes: int) -> None:
        self._max = max_bytes
        self._known = {
            str(part.get("format_id")): part.get("filesize") or part.get("filesize_approx")
            for part in formats.taken(info)
        }
        self._done: dict[str, int] = {}
        self._shown = 0
        self._next = 0.0

    def __call__(self, status: Mapping[str, Any]) -> None:
        part = str(status.get("info_dict", {}).get("format_id"))
        done = int(status.get("downloaded_bytes") or 0)
        self._done[part] = max(done, self._done.get(part, 0))
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        if status.get("status") == "finished":
            total = total or done
        if total:
            self._known[part] = total
        received = sum(self._done.values())
        if max(received, status.get("total_bytes") or 0) > self._max:
            raise TooLarge(f"The media has more than {self._max} bytes")
        now = time.monotonic()
        if now < self._next and status.get("status") != "finished":
            return
        self._next = now + _PROGRESS_SECONDS
        self._shown = max(self._shown, received)
        sizes = list(self._known.values())
        whole = max(int(sum(size or 0 for size in sizes)), self._shown) if all(sizes) else None
        _send(kind="progress", done=self._shown, total=whole)


class Extraction:
    """One URL: resolved, then downloaded."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._info: dict[str, Any] = {}
        if request.plugins:
            yt_dlp.globals.plugin_dirs.value = [request.plugins]
            yt_dlp.globals.all_plugins_loaded.value = False
        self.ydl = Downloader(
            {
                "format": self._select,
                "format_sort": formats.sort(audio_only=request.audio_only),
                "merge_output_format": formats.MERGED_INTO,
                "allow_multiple_audio_streams": request.all_audio_languages,
                "proxy": request.proxy,
                "compat_opts": {"no-certifi"},
                "cookiefile": request.cookies_file or None,
                "cachedir": request.cache,
                "ffmpeg_location": request.ffmpeg,
                "js_runtimes": {"deno": {"path": request.deno}},
                "external_downloader": {"default": "native"},
                "hls_prefer_native": True,
                "concurrent_fragment_downloads": request.fragments,
                "buffersize": _READ_BYTES,
                "skip_unavailable_fragments": False,
                "retries": 3,
                "fragment_retries": 5,
                "extractor_retries": 2,
                "socket_timeout": request.timeout,
                "noplaylist": not request.playlist,
                "extract_flat": "in_playlist",
                # How old the entries of a list are, which YouTube says in words: no request more.
                "extractor_args": {"youtubetab": {"approximate_date": [""]}},
                "playlistend": request.max_entries + 1,
                "nopart": True,
                "continuedl": False,
                "overwrites": True,
                "updatetime": False,
                "usenetrc": False,
                "enable_file_urls": False,
                "logger": StderrLogger(),
                "noprogress": True,
                "color": "never",
            },
            auto_init=False,
            po_tokens=PoTokens(request.deno, enabled=request.po_tokens),
        )
        if request.plugins:
            self.ydl.add_default_info_extractors()
        else:
            # Not a copy: that would write to the memory of each of them.
            self.ydl._ies = _extractors  # noqa: SLF001 - there is no public name for it
        self._selection_error = ""
        self._best = self.ydl.build_format_selector(formats.selector(request.wanted))

    def _select(self, context: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Select formats, as yt-dlp's option `format` does.

        A preview selects anything if the source does not offer what is wanted.
        """
        try:
            offered = formats.offered(
                context["formats"], self._request.wanted, live=bool(self._request.record_seconds)
            )
            found = list(self._best({**context, "formats": offered}))
        except formats.SelectionUnavailable as error:
            missing = shortfall(self.ydl.announced, context["formats"], self._request.wanted)
            message = f"{error}. {missing['message']}" if missing else str(error)
            if not self._request.preview:
                raise formats.SelectionUnavailable(message) from error
            self._selection_error, found = message, []
        if not found and self._request.preview:
            self._selection_error = self._selection_error or "The source offers no audio"
            found = list(self.ydl.build_format_selector("best*")(context))
        return iter(found)

    def resolve(self) -> dict[str, Any]:
        self.ydl.ignores_media_types = self._request.manifest
        found = self._extract()
        if found is None:
            raise yt_dlp.utils.UnsupportedError(self._request.url)
        lists, asked = 0, self._request.url
        while found.get("_type") in ("playlist", "multi_video"):
            entries = [entry for entry in found.get("entries") or () if entry]
            if len(entries) != 1 or self._request.playlist:
                return listed(found, entries, asked)
            asked = entries[0].get("url") or asked
            # An entry that is not a list is resolved too, because it was requested by itself.
            found = self.ydl.process_ie_result(
                entries[0], download=False, extra_info={"extractor": found.get("extractor")}
            )
            lists += 1
            if found is None or lists > _MAX_NESTED_LISTS:
                # The entry leads back to a list that contains it.
                raise yt_dlp.utils.UnsupportedError(self._request.url)
        self._info = found
        status = found.get("live_status")
        if status == "is_upcoming" and not self._request.preview:
            raise Upcoming("The media is announced and not available yet")
        if self._is_live() and not self._request.preview:
            self._check_live()
        elif not self._request.preview:
            self._check_tracks()
            sponsorblock.add_chapters(found, self._request)
        message = resolved(found, identity(self.ydl, found), self._request)
        offered = found.get("formats") or formats.taken(found)
        message["shortfall"] = shortfall(self.ydl.announced, offered, self._request.wanted)
        if self._request.preview:
            message["preview"] = {**offer(found), "selection_error": self._selection_error}
        return message

    def _extract(self) -> dict[str, Any] | None:
        tokens = self.ydl.po_tokens
        try:
            return tokens.extract(
                self.ydl,
                self._request.wanted,
                lambda: self.ydl.extract_info(self._request.url, download=False),
            )
        finally:
            if tokens.minted or tokens.failure:
                _send(kind="po_tokens", minted=tokens.minted, failure=tokens.failure)

    def _is_live(self) -> bool:
        """Return whether the media is live now, and say so in its info."""
        info = self._info
        if radio.is_radio(info, self.ydl.endless):
            info["is_live"] = info[radio.MARK] = True
        elif info.get("live_status") == "is_live":
            info["is_live"] = True
        return bool(info.get("is_live"))

    def _check_live(self) -> None:
        if not self._request.record_seconds:
            raise LiveStream(
                "The media is a live stream. Set record_duration, or ingest it after it has ended."
            )
        if not recordable(self._info):
            raise LiveStream(
                "The media is a live stream, and only HLS streams and radio can be recorded. "
                "Ingest it after it has ended."
            )

    def _check_tracks(self) -> None:
        """Raise what keeps the selected tracks from being fetched."""
        for part in formats.taken(self._info):
            track = part.get(TRACK)
            if track is not None and track.error is not None:
                raise track.error

    def fetch(self, directory: str) -> dict[str, Any]:
        info = self._info
        self.ydl.ignores_media_types, self.ydl.fetching = False, True
        # In the directory, a "%" is only that.
        template = f"{directory.replace('%', '%%')}/media.%(ext)s"
        self.ydl.params["outtmpl"] = {"default": template}
        if self._request.section is not None and not info.get("is_live"):
            # How many bytes the section has is not known.
            progress = ProgressHook({}, self._request.max_bytes)
            # It loads FFmpeg, which most extractions do not need.
            from ingot_server.extractor.section_fetch import fetch_section

            return fetch_section(self.ydl, info, directory, self._request, progress)
        progress = ProgressHook(info, self._request.max_bytes)
        if info.get("is_live"):
            path = record(
                self.ydl,
                info,
                directory,
                seconds=self._request.record_seconds,
                timeout=self._request.timeout,
                progress=progress,
            )
        else:
            self.ydl.add_progress_hook(progress)
            info = dict(info)
            self.ydl.process_info(info)
            path = info.get("filepath") or info.get("_filename") or ""
        if not Path(path).is_file():
            raise TooLarge("larger than max-filesize")
        if self._request.audio_only and formats.holds_video(self._info):
            path = self._extract_audio(path, directory)
        longest = max(self.ydl.tracks, key=lambda track: track.seconds, default=Track())
        return {
            "kind": "fetched",
            "path": path,
            "manifest_seconds": longest.seconds,
            "bounds_seconds": longest.bounds_seconds,
            "section": None,
        }

    def side_files(self, directory: str) -> Iterator[dict[str, Any]]:
        self.ydl.ignores_media_types = False
        for found in side_files(self.ydl, self._info, self._request, directory):
            yield {"kind": "side_file", **found}

    def _extract_audio(self, path: str, directory: str) -> str:
        """Copy the audio into the first container that can hold it; return the path."""
        for extension in ("m4a", "webm", "mka"):
            target = str(Path(directory, f"audio.{extension}"))
            try:
                FFmpegPostProcessor(self.ydl).run_ffmpeg(
                    path, target, ["-map", "0:a:0", "-vn", "-c", "copy"]
                )
            except yt_dlp.utils.PostProcessingError:
                Path(target).unlink(missing_ok=True)
                continue
            Path(path).unlink()
            return target
        raise yt_dlp.utils.ExtractorError("The media has no audio of its own", expected=True)

    def report(self, error: BaseException) -> dict[str, Any]:
        """Return the fields of a `Report` for `error` and the request that failed before it."""
        report = report_of(error, self.ydl.failure, self._request.proxy)
        moment = self._info.get("release_timestamp")
        if moment:
            report["start_time"] = datetime.fromtimestamp(moment, UTC).isoformat()
        return report


def _send(**message: object) -> None:
    os.write(_output, json.dumps(message).encode() + b"\n")


def prepare() -> None:
    """Do once what every job needs, and what yt-dlp would do late in each of them."""
    yt_dlp.globals.plugin_dirs.value = []
    sandbox.refuse_downloaders()
    keep_subtitle_names()
    correct_formats()
    replace_downloaders()
    choose_containers_by_content()
    watch_youtube()
    keep_urls()
    try:
        register_provider()
    except (ImportError, AttributeError) as error:
        _log(f"This yt-dlp takes no PO tokens of Ingot: {error!r}")
    with yt_dlp.YoutubeDL({"quiet": True, "logger": StderrLogger()}) as ydl:
        _extractors.update(ydl._ies)  # noqa: SLF001 - there is no public name for it
        ydl.get_info_extractor("Generic")
    for extractor in yt_dlp.extractor.gen_extractor_classes():
        extractor.suitable("http://host.invalid/")
    # The extractors keep their patterns. What follows needs the room: Python remembers 512 others.
    re.purge()
    _warm_up()


def _warm_up() -> None:
    """Run one extraction whose responses are discarded; leave the extractors as they were."""
    global _output
    extractors, output = dict(_extractors), _output
    _output = os.open(os.devnull, os.O_WRONLY)
    try:
        tls_contexts.share()
        warm_up(Extraction, _FFMPEG)
    except Exception as error:
        _log(f"Each extraction takes longer, because this yt-dlp cannot be warmed up: {error!r}")
    finally:
        os.close(_output)
        _output = output
        # It replaced those that it used by instances of its own.
        _extractors.clear()
        _extractors.update(extractors)


def serve() -> None:
    """Run one extraction, and end the process."""
    _keep_bytecode_whole()
    # Standard output carries the responses; everything else that prints goes to standard error.
    global _output
    _output = os.dup(1)
    os.dup2(2, 1)
    _extract()
    os._exit(0)


def _extract() -> None:
    line = sys.stdin.buffer.readline()
    if not line:
        return
    message = json.loads(line)
    if not message:
        _send(kind="version", version=VERSION)
        return
    request = Request(**message)
    sandbox.confine_process(request)
    os.chdir(request.cache)
    os.environ.update(HOME=request.cache, TMPDIR=request.cache, DENO_DIR=request.cache)
    # Python remembers the one that was found before the fork.
    tempfile.tempdir = None
    extraction: Extraction | None = None
    try:
        sandbox.trust(request)
        extraction = Extraction(request)
        sandbox.contain(request)
        sandbox.lock(request)
        _send(version=VERSION, **extraction.resolve())
        line = sys.stdin.buffer.readline()
        if line:
            fetch = json.loads(line)
            if fetch["media"]:
                _send(**extraction.fetch(fetch["directory"]))
            for found in extraction.side_files(fetch["directory"]):
                _send(**found)
            _send(kind="done")
    except MemoryError:
        os._exit(70)
    except Exception as error:
        report = extraction.report(error) if extraction else report_of(error)
        if request.cookies_file and asks_to_sign_in(report["message"]):
            _send(kind="cookies_rejected")
        _send(**report)


if __name__ == "__main__":
    prepare()
    serve()
