"""Records a live HLS stream up to a length, starting about three target durations before its end.

yt-dlp gives live streams to ffmpeg, which has no network here. Instead, this module reloads the
media playlist as RFC 8216, section 6.3 describes and gives each new segment to yt-dlp's own
fragment downloader, which decrypts and retries.

A recording ends when it is long enough, when the stream ends, at a new initialization segment, or
when no segment arrived for three quarters of the stall timeout. What was recorded until then is the
media. A segment that fails is left out. `radio.py` receives radio, which is cut here like the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

import yt_dlp
import yt_dlp.utils
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.networking.exceptions import RequestError
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

from ingot_server.extractor import formats, radio
from ingot_server.extractor.hls_playlist import Playlist, Segment, parse

_VIDEO: Final = ("mp4", "mkv")
_AUDIO: Final = ("m4a", "mka")
_TARGETS_BEHIND_END: Final = 3
_SHORTEST_WAIT: Final = 0.2


class Stalled(Exception):
    """The stream sent nothing that could be recorded."""


def recordable(info: Mapping[str, Any]) -> bool:
    """Return whether all selected formats use HLS, or are radio."""
    return info.get(radio.MARK) or all(
        str(part.get("protocol")).startswith("m3u8") for part in formats.taken(info)
    )


def record(
    ydl: yt_dlp.YoutubeDL,
    info: Mapping[str, Any],
    directory: str,
    *,
    seconds: float,
    timeout: float,
    progress: Callable[[Mapping[str, Any]], None],
) -> str:
    """Record at most `seconds` of the selected formats into one file; return its path.

    `timeout` is the stall timeout in seconds, `progress` a progress hook of yt-dlp. Raises Stalled.
    """
    if info.get(radio.MARK):
        path = Path(directory, "radio")
        if not radio.receive(ydl, info, path, seconds=seconds, timeout=timeout, progress=progress):
            raise Stalled("The radio station sends no data")
        return _joined(ydl, [str(path)], directory, seconds, radio.CONTAINERS)
    stop = threading.Event()
    paths, recordings = [], []
    parts = formats.taken(info)
    with ThreadPoolExecutor(len(parts)) as pool:
        try:
            for number, part in enumerate(parts):
                recorder = _Recorder(ydl, seconds=seconds, timeout=timeout, stop=stop)
                recorder.add_progress_hook(progress)
                paths.append(str(Path(directory, f"live-{number}")))
                recordings.append(pool.submit(recorder.download, paths[-1], {**info, **part}))
            wait(recordings, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
        for recording in recordings:
            recording.result()
    containers = _VIDEO if formats.holds_video(info) else _AUDIO
    return _joined(ydl, paths, directory, seconds, containers)


class _Recorder(FragmentFD):  # type: ignore[misc] # untyped
    """Records one format; requests its segments one by one as they appear."""

    FD_NAME = "recording"

    def __init__(
        self, ydl: yt_dlp.YoutubeDL, *, seconds: float, timeout: float, stop: threading.Event
    ) -> None:
        super().__init__(
            ydl,
            {
                **ydl.params,
                "concurrent_fragment_downloads": 1,
                "fragment_retries": 2,
                "skip_unavailable_fragments": True,
            },
        )
        self._limit = seconds
        self._silence_limit = 0.75 * timeout
        self._stop = stop
        self._seconds = 0.0
        self._bytes = 0

    def real_download(self, filename: str, info_dict: dict[str, Any]) -> bool:
        context: dict[str, Any] = {"filename": filename, "live": True, "total_frags": 0}
        self._prepare_and_start_frag_download(context, info_dict)
        done = self.download_and_append_fragments(
            context, self._fragments(context, info_dict), info_dict
        )
        return bool(done)

    def _fragments(
        self, context: Mapping[str, Any], info: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        file = context["dest_stream"]
        index, latest = 0, -1
        initialization: Mapping[str, Any] | None = None
        begun = moved = time.monotonic()
        while not self._stop.is_set():
            asked = time.monotonic()
            playlist = self._load_playlist(info)
            segments = _unseen(playlist, latest) if playlist else []
            for segment in segments:
                if segment.initialization != initialization:
                    if self._seconds:
                        return
                    initialization = segment.initialization
                    if initialization:
                        index += 1
                        yield {**initialization, "frag_index": index}
                before, index, latest = file.tell(), index + 1, segment.sequence
                yield {**segment.fragment, "frag_index": index}
                if file.tell() > before:
                    self._seconds += segment.seconds
                    self._bytes = file.tell()
                    moved = time.monotonic()
                if self._seconds >= self._limit or self._stop.is_set():
                    return
            if (playlist and playlist.ended) or self._is_over(begun, moved):
                return
            pause = playlist.target_seconds * (1 if segments else 0.5) if playlist else 0
            pause = min(max(pause, _SHORTEST_WAIT), self._silence_limit / 4)
            self._stop.wait(max(0.0, asked + pause - time.monotonic()))

    def _is_over(self, begun: float, moved: float) -> bool:
        """Return whether the recording stops waiting. Raises Stalled if nothing arrived at all."""
        now = time.monotonic()
        silent = now - moved > self._silence_limit
        if silent and not self._seconds:
            raise Stalled("The live stream sends no data")
        return silent or now - begun > 2 * self._limit + self._silence_limit

    def _load_playlist(self, info: Mapping[str, Any]) -> Playlist | None:
        """Load the current playlist; None if the request failed this time."""
        try:
            with self.ydl.urlopen(self._prepare_url(info, info["url"])) as response:
                text, url = response.read().decode("utf-8", "ignore"), response.url
        except RequestError:
            if not self._seconds:
                raise
            return None
        if not HlsFD.can_download(text, {}):
            raise yt_dlp.utils.ExtractorError("The stream is protected by DRM", expected=True)
        return parse(text, url)

    def _hook_progress(self, status: dict[str, Any], info_dict: Mapping[str, Any]) -> None:
        if self._seconds and status.get("status") == "downloading":
            share = min(1.0, self._seconds / self._limit)
            status["total_bytes_estimate"] = int(self._bytes / share)
        super()._hook_progress(status, info_dict)


def _unseen(playlist: Playlist, latest: int) -> list[Segment]:
    """Return the segments after `latest`; of the first playlist only those near its end."""
    if latest >= 0 or playlist.ended:
        return [segment for segment in playlist.segments if segment.sequence > latest]
    behind, taken = 0.0, 0
    while taken < len(playlist.segments) and behind < _TARGETS_BEHIND_END * playlist.target_seconds:
        taken += 1
        behind += playlist.segments[-taken].seconds
    return playlist.segments[len(playlist.segments) - taken :]


def _joined(
    ydl: yt_dlp.YoutubeDL,
    paths: list[str],
    directory: str,
    seconds: float,
    containers: Sequence[str],
) -> str:
    """Merge `paths` into the first container that holds them, and cut it to `seconds`.

    Nothing is encoded again.
    """
    # Renditions of one stream share a clock but need not begin at the same moment.
    inputs = [(path, ["-isync", "0"] if number else []) for number, path in enumerate(paths)]
    maps = ["-map", "0:v:0?", "-map", "0:a:0?"] if len(paths) == 1 else ["-map", "0", "-map", "1"]
    for extension in containers:
        target = str(Path(directory, f"media.{extension}"))
        options = [*maps, "-dn", "-ignore_unknown", "-c", "copy", "-t", f"{seconds:g}"]
        try:
            FFmpegPostProcessor(ydl).real_run_ffmpeg(inputs, [(target, options)])
        except yt_dlp.utils.PostProcessingError:
            Path(target).unlink(missing_ok=True)
            continue
        for path in paths:
            Path(path).unlink(missing_ok=True)
        return target
    raise yt_dlp.utils.ExtractorError("No container can hold the recording", expected=True)
