"""Downloads tracks of HLS and DASH with yt-dlp's fragment downloader, as this package reads them.

`replace_downloaders` makes yt-dlp's downloaders of HLS and DASH do so. yt-dlp's own reading of HLS
refuses a second initialization section, counts it in the media sequence that decrypts the rest, and
ignores gaps; its reading of DASH knows neither several periods nor byte ranges.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yt_dlp.utils
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD

from ingot_server.extractor import hls_playlist
from ingot_server.extractor.error_report import LastFailure
from ingot_server.extractor.presentation import TRACK, Incomplete, Track

_GONE: Final = (404, 410)
_MAX_TRACKS: Final = 100
# What some extractors add to a format, and only yt-dlp's own downloader knows.
_SPECIAL: Final = (
    *("extra_param_to_segment_url", "extra_param_to_key_url", "hls_aes", "format_index"),
)


class _WrittenByOneThread:
    """A file that only the thread closes which has opened and writes it.

    yt-dlp closes it in the thread of each fragment that fails. Then an earlier fragment could not
    be written any more, and the download would fail for that reason.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._writer = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        if threading.get_ident() == self._writer:
            self._file.close()


def replace_downloaders() -> None:
    """Let yt-dlp fetch the tracks of HLS and DASH as this module does."""
    fetch_hls, fetch_dash = HlsFD.real_download, DashSegmentsFD.real_download

    def hls(self: HlsFD, filename: str, info: dict[str, Any]) -> bool:
        if info.get("ext") == "vtt" or any(info.get(name) is not None for name in _SPECIAL):
            return bool(fetch_hls(self, filename, info))
        return download(self, filename, info, _hls_track(self, info))

    def dash(self: DashSegmentsFD, filename: str, info: dict[str, Any]) -> bool:
        track = info.get(TRACK)
        if track is None:
            return bool(fetch_dash(self, filename, info))
        return download(self, filename, info, track)

    HlsFD.real_download, DashSegmentsFD.real_download = hls, dash


def download(downloader: FragmentFD, filename: str, info: dict[str, Any], track: Track) -> bool:
    """Download a track into one file, and tell the YoutubeDL how long it should be.

    If the YoutubeDL has a section, only the fragments are downloaded that this needs. Raises the
    track's error, Incomplete, Unjoinable, or OutsideMedia.
    """
    if track.error is not None:
        raise track.error
    section, begins_at = downloader.ydl.section, 0.0
    if section is not None:
        found = section.choose(track)
        track, begins_at = found.track, found.begins_at
    fragments = [fragment for part in track.parts for fragment in part.fragments]
    owners = [number for number, part in enumerate(track.parts) for _ in part.fragments]
    sizes = [0] * len(track.parts)

    def counted(content: bytes, index: int) -> bytes:
        _check_range(content, fragments[index - 1])
        sizes[owners[index - 1]] += len(content)
        return content

    context = {"filename": filename, "total_frags": len(fragments)}
    downloader._prepare_and_start_frag_download(context, info)  # noqa: SLF001 - for subclasses
    context["dest_stream"] = file = _WrittenByOneThread(context["dest_stream"])
    try:
        done = downloader.download_and_append_fragments(
            context, _numbered(fragments), info, pack_func=counted
        )
    except yt_dlp.utils.DownloadError as error:
        file.close()
        raise _explained(downloader, fragments, error) from error
    downloader.ydl.tracks.append(track)
    if len(track.parts) > 1:
        # It loads FFmpeg, which no other download needs.
        from ingot_server.extractor.join import join

        join(filename, track.parts, sizes, begins_at=begins_at)
        # Joined tracks begin when the presentation does, or later: ffmpeg must not move them.
        downloader.ydl.params["postprocessor_args"] = {
            f"merger+ffmpeg_i{number}": ["-isync", "0"] for number in range(2, _MAX_TRACKS)
        }
    return bool(done)


def _numbered(fragments: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for index, fragment in enumerate(fragments, 1):
        yield {**fragment, "frag_index": index, "fragment_count": len(fragments)}


def _check_range(content: bytes, fragment: Mapping[str, Any]) -> None:
    """Raise Incomplete if a server that knows no ranges sent the whole file."""
    byte_range = fragment.get("byte_range")
    if byte_range and len(content) > byte_range["end"] - byte_range["start"]:
        raise Incomplete(
            "The presentation has segments that are byte ranges of a file, and its server sends "
            "the whole file instead of a range"
        )


def _explained(
    downloader: FragmentFD, fragments: list[Mapping[str, Any]], error: Exception
) -> Exception:
    """Return an Incomplete if a fragment is missing; otherwise `error`."""
    failures: Mapping[str, LastFailure] = downloader.ydl.failures
    missing = {url: each for url, each in failures.items() if each.status in _GONE}
    for number, each in enumerate(fragments, 1):
        if (failure := missing.get(each["url"])) is not None:
            return _missing(f"Segment {number} of {len(fragments)}", failure)
    last = downloader.ydl.failure
    if last is not None and last.status in _GONE:
        return _missing("A segment of the presentation", last)
    return error


def _missing(which: str, failure: LastFailure) -> Incomplete:
    return Incomplete(f"{which} is missing at the source (HTTP {failure.status}): {failure.url}")


def _hls_track(downloader: HlsFD, info: Mapping[str, Any]) -> Track:
    """Return the track of a media playlist. Raises Unreadable."""
    url, text = info["url"], info.get("hls_media_playlist_data")
    if not text:
        request = downloader._prepare_url(info, url)  # noqa: SLF001 - for subclasses
        with downloader.ydl.urlopen(request) as response:
            url, text = response.url, response.read().decode("utf-8", "ignore")
    if not HlsFD.can_download(text, {}):
        raise yt_dlp.utils.ExtractorError("The stream is protected by DRM", expected=True)
    return hls_playlist.track(hls_playlist.parse(text, url), ended=info.get("is_live") is False)
