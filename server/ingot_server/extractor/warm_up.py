"""Warm-up: an extraction in the process that children are forked from, before the first of theirs.

At first use, yt-dlp compiles patterns and imports modules, Python makes parsers of dates, and
OpenSSL loads the authorities: 90 ms that each child would take again. This extraction, of HLS, gets
its answers from memory. It makes no sockets, and starts no threads that outlive it.

    master.m3u8 -> variant.m3u8 -> two segments

It is not of a web page: for one, yt-dlp would import all extractors that know embedded players,
which takes 0.4 s and 20 MiB.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from typing import Any, Final

import yt_dlp
import yt_dlp.networking.common
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

from ingot_server.extractor.protocol import Request

_SITE: Final = "http://warm-up.invalid"
_PLAYLIST_TYPE: Final = "application/vnd.apple.mpegurl"
_ANSWERS: Final = {
    "/master.m3u8": (
        _PLAYLIST_TYPE,
        """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1280000,RESOLUTION=1280x720,CODECS="avc1.4d401f,mp4a.40.2"
variant.m3u8
""",
    ),
    "/variant.m3u8": (
        _PLAYLIST_TYPE,
        """#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-PLAYLIST-TYPE:VOD
#EXTINF:2.0,
0.ts
#EXTINF:2.0,
1.ts
#EXT-X-ENDLIST
""",
    ),
    "/0.ts": ("video/mp2t", "first"),
    "/1.ts": ("video/mp2t", "second"),
}
_MEBIBYTE: Final = 1 << 20


class MemoryRH(yt_dlp.networking.common.RequestHandler):  # type: ignore[misc] # untyped
    """The only client of a warm-up: it knows a few addresses and connects to none.

    yt-dlp requires that the name of a client ends so.
    """

    _SUPPORTED_URL_SCHEMES = ("http",)
    _SUPPORTED_PROXY_SCHEMES = None
    _SUPPORTED_FEATURES = None

    def _check_extensions(self, extensions: dict[str, Any]) -> None:
        extensions.clear()

    def _send(self, request: Any) -> Any:
        content_type, text = _ANSWERS[request.url.removeprefix(_SITE)]
        content = text.encode()
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(content)),
            # yt-dlp compiles 50 patterns when it reads the first date.
            "Last-Modified": "Mon, 02 Nov 2026 12:00:00 GMT",
        }
        return yt_dlp.networking.common.Response(io.BytesIO(content), request.url, headers)


def warm_up(extraction_of: Callable[[Request], Any], ffmpeg: str) -> None:
    """Ask `ffmpeg`, a path, for its version, which yt-dlp remembers, and run one extraction.

    `extraction_of` makes an `Extraction` of child_main.py. Raises anything if another version of
    yt-dlp has other interfaces; what was done until then remains.
    """
    with yt_dlp.YoutubeDL({"quiet": True, "ffmpeg_location": ffmpeg}, auto_init=False) as ydl:
        if not FFmpegPostProcessor(ydl).available:
            # It may be another time, so each child asks again.
            FFmpegPostProcessor._version_cache.pop(ffmpeg, None)  # noqa: SLF001 - has no other name
    with tempfile.TemporaryDirectory(prefix="ingot-warm-up-") as directory:
        extraction = extraction_of(_request(directory))
        ydl = extraction.ydl
        # ffmpeg would have to repair what is not media at all.
        ydl.params["fixup"] = "never"
        director = ydl._request_director  # noqa: SLF001 - there is no public name for it
        for handler in director.handlers.values():
            handler._make_sslcontext()  # noqa: SLF001 - for subclasses
        director.handlers.clear()
        director.add_handler(MemoryRH(logger=director.logger))
        extraction.resolve()
        extraction.fetch(directory)
        ydl.close()


def _request(directory: str) -> Request:
    return Request(
        url=f"{_SITE}/master.m3u8",
        manifest=True,
        audio_only=False,
        max_height=None,
        min_height=None,
        audio_language="",
        all_audio_languages=False,
        video_codecs=[],
        preview=False,
        playlist=False,
        max_entries=1,
        record_seconds=0.0,
        section=None,
        subtitle_languages=[],
        automatic_subtitles=False,
        thumbnail=False,
        all_subtitles=False,
        info=False,
        storyboard=False,
        sponsorblock_categories=[],
        sponsorblock_api="",
        proxy="http://127.0.0.1:9",
        ca_file="",
        cookies_file="",
        po_tokens=False,
        plugins="",
        plugin_port=0,
        cache=directory,
        directory=directory,
        ffmpeg=os.devnull,
        deno=os.devnull,
        fragments=2,
        timeout=20.0,
        max_bytes=_MEBIBYTE,
        memory_bytes=_MEBIBYTE,
    )
