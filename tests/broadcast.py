"""A live HLS stream from a real web server: its window moves on by a segment with each request."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
from aiohttp import web

from tests.web_server import web_server

SEGMENTS = 40
WINDOW = 5
_TYPE = "application/vnd.apple.mpegurl"


@dataclass
class Broadcast:
    """What the server shows. Change its fields at any time."""

    files: Mapping[str, bytes]
    renditions: tuple[str, ...]
    base: str = ""
    ends_at: int = SEGMENTS
    """How many segments there will ever be."""
    closes: bool = True
    """Says so with EXT-X-ENDLIST; else the stream just stops."""
    lines: str = ""
    """More tags for the playlists' heads."""
    asked: list[str] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _seen: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.base}/live"

    def playlist(self, name: str) -> str:
        """The window as it is for this request."""
        self._seen[name] = self._seen.get(name, WINDOW - 1) + 1
        last = min(self._seen[name], self.ends_at)
        first = max(0, last - WINDOW)
        head = (
            f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
        )
        head += self.lines
        if f"{name}-init.mp4" in self.files:
            head += f'#EXT-X-MAP:URI="{name}-init.mp4"\n'
            suffix = "m4s"
        else:
            suffix = "ts"
        parts = [f"#EXTINF:1.0,\n{name}-{number}.{suffix}\n" for number in range(first, last)]
        end = "#EXT-X-ENDLIST\n" if self.closes and last == self.ends_at else ""
        return head + "".join(parts) + end

    async def reached(self, name: str) -> None:
        """Waits until `name` was asked for."""
        async with self._news:
            await self._news.wait_for(lambda: name in self.asked)

    async def respond(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/")
        self.asked.append(name)
        async with self._news:
            self._news.notify_all()
        if name == "live":
            return web.Response(text=self._entry(), content_type=_TYPE)
        if name.endswith(".m3u8"):
            return web.Response(text=self.playlist(name[:-5]), content_type=_TYPE)
        if name in self.files:
            return web.Response(body=self.files[name], content_type="video/mp2t")
        return web.Response(status=404)

    def _entry(self) -> str:
        if len(self.renditions) == 1:
            return self.playlist(self.renditions[0])
        return (
            "#EXTM3U\n"
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="sound.m3u8"\n'
            '#EXT-X-STREAM-INF:BANDWIDTH=200000,CODECS="avc1.42c00b,mp4a.40.2",'
            'RESOLUTION=160x120,AUDIO="a"\npicture.m3u8\n'
        )


def encoded(folder: Path, *, apart: bool = False) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Segments of a second: MPEG-TS, or with `apart` picture and sound each in fragmented MP4."""
    renditions = ("picture", "sound") if apart else ("both",)
    kinds = {
        "both": [],
        "picture": ["-an"],
        "sound": ["-vn"],
    }
    for name in renditions:
        form = ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", f"{name}-init.mp4"]
        subprocess.run(
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error"),
                *("-f", "lavfi", "-i", f"testsrc=size=160x120:rate=10:duration={SEGMENTS}"),
                *("-f", "lavfi", "-i", f"sine=frequency=440:duration={SEGMENTS}"),
                *("-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p"),
                *("-c:a", "aac", *kinds[name], "-f", "hls", "-hls_time", "1"),
                *("-hls_list_size", "0", *(form if apart else [])),
                *("-hls_segment_filename", str(folder / f"{name}-%d.{'m4s' if apart else 'ts'}")),
                str(folder / f"{name}.list"),
            ],
            check=True,
        )
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".list"}
    return files, renditions


@asynccontextmanager
async def broadcasting(
    files: Mapping[str, bytes], renditions: tuple[str, ...]
) -> AsyncIterator[Broadcast]:
    """A broadcast on a free port of 127.0.0.1."""
    broadcast = Broadcast(files, renditions)
    async with web_server(broadcast.respond) as address:
        broadcast.base = f"http://{address}"
        yield broadcast
