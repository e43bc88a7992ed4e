"""HLS and DASH of more than one part: a red film of two seconds, and a blue one of three.

The red one sounds at 440 Hz, the blue one at 880 Hz, and each segment has one second. ffmpeg makes
them, and decodes what came of them: `pictures` and `sound` say what a player would show.
"""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

from tests.media import folder
from tests.origin import Origin, Page

RATE = 25
FILMS = {
    "red": ("red", 2, 440, "64x48"),
    "blue": ("blue", 3, 880, "64x48"),
    "wide": ("red", 2, 440, "96x48"),
}
_X264 = ("-c:v", "libx264", "-g", "25", "-keyint_min", "25", "-preset", "ultrafast")
_HLS = ("-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod")
PACKINGS: dict[str, tuple[str, ...]] = {
    "dash": ("list.mpd", "-f", "dash", "-seg_duration", "1"),
    "ts": ("list.m3u8", *_HLS),
    "fmp4": ("list.m3u8", *_HLS, "-hls_segment_type", "fmp4"),
}
VIDEO = re.compile(r'<SegmentTemplate timescale="12800".*?</SegmentTemplate>', re.DOTALL)


def ffmpeg(*arguments: str | Path) -> bytes:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    command = [program, "-nostdin", "-v", "error", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


@functools.cache
def film(name: str, packing: str) -> Path:
    """A folder with a film's manifest `list.*` and its segments."""
    color, seconds, pitch, size = FILMS[name]
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-{packing}-", dir=folder()))
    manifest, *arguments = PACKINGS[packing]
    sources = (f"color={color}:s={size}:r={RATE}:d={seconds}", f"sine={pitch}:d={seconds}:r=48000")
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    ffmpeg(*inputs, *_X264, "-c:a", "aac", *arguments, directory / manifest)
    return directory


def serve_film(origin: Origin, name: str, packing: str) -> str:
    """Publishes a film's segments below its name; the text of its manifest."""
    text = ""
    for file in film(name, packing).iterdir():
        origin.serve(f"/{name}/{file.name}", Page(file.read_bytes(), content_type="video/mp4"))
        if file.stem == "list":
            text = file.read_text()
    return text


def period(origin: Origin, name: str, *, attributes: str = "") -> str:
    """Publishes a film as DASH; its period, whose URLs are relative to the manifest."""
    text = serve_film(origin, name, "dash")
    found = re.search(r"<Period.*</Period>", text, re.DOTALL)
    assert found is not None
    head = f'<Period id="{name}" {attributes}><BaseURL>{name}/</BaseURL>'
    return re.sub(r"<Period[^>]*>", head, found[0], count=1)


def serve_dash(origin: Origin, periods: str, attributes: str) -> str:
    """Publishes a manifest with these periods; its URL."""
    namespaces = 'xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:xlink="http://www.w3.org/1999/xlink"'
    text = f"<MPD {namespaces} {attributes}>{periods}</MPD>"
    return origin.serve("/list.mpd", Page(text.encode(), content_type="application/dash+xml"))


def segments(origin: Origin, name: str, packing: str) -> str:
    """Publishes a film as HLS; the lines of its segments, relative to the manifest."""
    text = serve_film(origin, name, packing)
    text = text[text.index("#EXT-X-MAP" if "#EXT-X-MAP" in text else "#EXTINF") :]
    text = text.replace("#EXT-X-ENDLIST\n", "")
    return re.sub(r"(?m)^(?=\w)|(?<=URI=\")", f"{name}/", text)


def serve_hls(origin: Origin, lines: str, *, end: str = "#EXT-X-ENDLIST\n") -> str:
    """Publishes a playlist with these segments; its URL."""
    text = f"#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:1\n{lines}{end}"
    page = Page(text.encode(), content_type="application/vnd.apple.mpegurl")
    return origin.serve("/list.m3u8", page)


def pictures(path: Path) -> list[tuple[str, int]]:
    """The colors that a player shows, each with the number of its frames in a row."""
    pixels = ffmpeg(
        *("-i", path, "-map", "0:v:0", "-vf", "scale=1:1", "-fps_mode", "passthrough"),
        *("-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
    )
    colors = ["red" if pixels[at] > pixels[at + 2] else "blue" for at in range(0, len(pixels), 3)]
    return [(color, len(list(frames))) for color, frames in itertools.groupby(colors)]


def sound(path: Path) -> tuple[float, list[int]]:
    """The seconds that a player sounds, and the pitch 0.2 s from the beginning and from the end."""
    content = ffmpeg(
        *("-i", path, "-map", "0:a:0", "-af", "aresample=8000:async=1:first_pts=0"),
        *("-ac", "1", "-f", "s8", "-"),
    )
    samples = [value - 256 if value > 127 else value for value in content]
    return len(samples) / 8000, [_pitch(samples[1600:5600]), _pitch(samples[-5600:-1600])]


def _pitch(samples: list[int]) -> int:
    """The frequency of half a second, to the nearest 20 Hz."""
    rises = sum(1 for before, after in itertools.pairwise(samples) if before < 0 <= after)
    return round(2 * rises / 20) * 20
