"""A film in which every frame and every second can be told apart, and what a section of it shows.

It has 16 seconds at ten frames a second, a key frame every two seconds, and a beep at every even
second. The brightness of a frame is its number.
"""

from __future__ import annotations

import functools
import tempfile
from array import array
from pathlib import Path

from tests.media import folder
from tests.origin import Origin, Page
from tests.presentations import ffmpeg

SECONDS = 16
RATE = 10
_DARKEST = 30
# As `frames` looks at it.
_WIDTH, _HEIGHT = 64, 48
_AUDIO_RATE = 8000
_PICTURE = f"nullsrc=s={_WIDTH}x{_HEIGHT}:r={RATE}:d={SECONDS},geq=lum='{_DARKEST}+N':cb=128:cr=128"
_NOISY = (
    f"nullsrc=s=160x120:r={RATE}:d={SECONDS},geq=lum='{_DARKEST}+N':cb=128:cr=128,"
    "noise=c0s=20:c0f=t"
)
_SOUND = f"aevalsrc='if(lt(mod(t,2),0.1),sin(2*PI*880*t),0)':s=48000:d={SECONDS}"
_H264 = ("-c:v", "libx264", "-preset", "fast", "-crf", "4", "-pix_fmt", "yuv420p", "-c:a", "aac")
_GROUPS = ("-g", "20", "-keyint_min", "20", "-sc_threshold", "0")
_VP9 = (
    *("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "10", "-b:v", "0"),
    *("-pix_fmt", "yuv420p", "-c:a", "libopus"),
)
_HLS = ("-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod")
FORMS: dict[str, tuple[str, ...]] = {
    "film.mp4": (*_H264, *_GROUPS),
    "front.mp4": (*_H264, *_GROUPS, "-movflags", "+faststart"),
    "film.webm": (*_VP9, *_GROUPS, "-cues_to_front", "0"),
    "film.ts": (*_H264, *_GROUPS),
    "ts/list.m3u8": (*_H264, *_GROUPS, *_HLS),
    "fmp4/list.m3u8": (*_H264, *_GROUPS, *_HLS, "-hls_segment_type", "fmp4"),
    "dash/list.mpd": (*_H264, *_GROUPS, "-f", "dash", "-seg_duration", "2"),
}


@functools.cache
def film(form: str) -> Path:
    """The film in one of FORMS: a file, or a manifest in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="sections-", dir=folder()))
    path = directory / form
    path.parent.mkdir(exist_ok=True)
    # Files are large enough for ranges of them to be worth while.
    picture = _PICTURE if path.parent != directory else _NOISY
    inputs = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", _SOUND)
    ffmpeg(*inputs, *FORMS[form], path)
    return path


def serve(origin: Origin, form: str) -> str:
    """Publishes a form of the film; the URL of its file or manifest."""
    path = film(form)
    kinds = {".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml"}
    files = [path] if path.parent.name.startswith("sections-") else list(path.parent.iterdir())
    for file in files:
        kind = kinds.get(file.suffix, "video/webm" if file.suffix == ".webm" else "video/mp4")
        origin.serve(f"/{file.name}", Page(file.read_bytes(), content_type=kind))
    return origin.url(f"/{path.name}")


def frames(path: Path) -> list[int]:
    """The numbers of the frames of a section, as far as they can be seen."""
    planes = ffmpeg(
        "-i",
        path,
        "-vf",
        f"extractplanes=y,scale={_WIDTH}:{_HEIGHT}:flags=area",
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-",
    )
    size = _WIDTH * _HEIGHT
    return [
        round(sum(planes[begin : begin + size]) / size) - _DARKEST
        for begin in range(0, len(planes), size)
    ]


def beeps(path: Path) -> list[float]:
    """When beeps begin in a section, in seconds."""
    content = ffmpeg(
        "-i",
        path,
        "-map",
        "0:a:0",
        "-af",
        "aresample=async=1:first_pts=0",
        "-ac",
        "1",
        "-ar",
        str(_AUDIO_RATE),
        "-f",
        "s16le",
        "-",
    )
    samples = array("h", content)
    found: list[float] = []
    quiet_since = -_AUDIO_RATE
    for number, sample in enumerate(samples):
        if abs(sample) > 2000:
            if number - quiet_since > _AUDIO_RATE // 4:
                found.append(number / _AUDIO_RATE)
            quiet_since = number
    return found
