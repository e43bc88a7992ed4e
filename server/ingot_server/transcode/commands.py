"""From a recipe and a probed media to the arguments of ffmpeg. Pure.

Streams are named by their number in the file, so cover art is never taken for video. Nothing of the
file's own metadata is carried: tags and chapters come from the Media (`tags.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ffmpeg

from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.transcode.ffmpeg import FORMATS, STANDARD_OUTPUT
from ingot_server.transcode.plan import (
    PICTURES,
    AudioTarget,
    audio_stream,
    copies_audio,
    copies_video,
    encoded_size,
    is_filled,
    sound,
    span,
    video_stream,
)

EXTENSIONS: Final = {
    Recipe.FORMAT_MP3: ".mp3",
    Recipe.FORMAT_M4A: ".m4a",
    Recipe.FORMAT_OPUS: ".opus",
    Recipe.FORMAT_FLAC: ".flac",
    Recipe.FORMAT_WAV: ".wav",
    Recipe.FORMAT_MP4: ".mp4",
    Recipe.FORMAT_PNG: ".png",
    Recipe.FORMAT_JPEG: ".jpg",
    Recipe.FORMAT_WAVEFORM: ".json",
}
CONTENT_TYPES: Final = {
    Recipe.FORMAT_MP3: "audio/mpeg",
    Recipe.FORMAT_M4A: "audio/mp4",
    Recipe.FORMAT_OPUS: "audio/ogg",
    Recipe.FORMAT_FLAC: "audio/flac",
    Recipe.FORMAT_WAV: "audio/wav",
    Recipe.FORMAT_MP4: "video/mp4",
    Recipe.FORMAT_PNG: "image/png",
    Recipe.FORMAT_JPEG: "image/jpeg",
    Recipe.FORMAT_WAVEFORM: "application/json",
}
TARGET_LUFS: Final = -16.0
TARGET_DBTP: Final = -1.5

_DEFAULT_CRF: Final = 23
_PRESET: Final = "fast"
_JPEG_QUALITY: Final = 2
_AAC_KBPS_A_CHANNEL: Final = 80
_OPUS_KBPS_A_CHANNEL: Final = 256
_WAVEFORM_RATE: Final = 48000
_LEAD_SECONDS: Final = {"mpegts": 15.0, "mpeg": 15.0}
# Fills gaps, the one before the first sample too, and leaves jitter below 0.1 s alone.
_ON_TIME: Final = "aresample=async=1:first_pts=0"


@dataclass(frozen=True, slots=True)
class Loudness:
    """What the first of two passes measured (EBU R 128, ITU-R BS.1770)."""

    integrated: float
    true_peak: float
    range: float
    threshold: float
    offset: float


def measure_arguments(recipe: Recipe, media: Media, source: str, threads: int = 0) -> list[str]:
    """The first pass: loudnorm's measures come out in the log at level `info`, as JSON."""
    made = sound(recipe, media)
    filters = [*_sound_filters(made), _loudnorm("print_format=json")]
    source_stream = _input(recipe, media, source, threads)
    return _compiled(
        ffmpeg.output(
            source_stream[str(made.index)],
            "-",
            **_part(recipe, media),
            af=",".join(filters),
            f="null",
        )
    )


def convert_arguments(
    recipe: Recipe,
    media: Media,
    source: str,
    output: Path,
    *,
    loudness: Loudness | None = None,
    metadata: Path | None = None,
    encode: bool = False,
    threads: int = 0,
) -> list[str]:
    """What makes the result, of every format but WAVEFORM.

    `metadata` is a file of tags and chapters for MP4 and M4A. `encode`: nothing is copied.
    """
    found = _input(recipe, media, source, threads)
    options: dict[str, Any] = {"map_metadata": "-1", "map_chapters": "-1", "threads": threads}
    streams = []
    if recipe.format in PICTURES:
        streams.append(found[str(video_stream(media).index)])
        options |= _picture(recipe)
    else:
        if recipe.format == Recipe.FORMAT_MP4:
            streams.append(found[str(video_stream(media).index)])
            options |= _video(recipe, media, encode=encode)
        if media.audio:
            made = sound(recipe, media)
            streams.append(found[str(made.index)])
            options |= _audio(recipe, media, made, loudness, encode=encode)
    options |= _part(recipe, media)
    if metadata is not None:
        # It has no stream, but only what is mapped is an input for ffmpeg-python.
        streams.append(ffmpeg.input(f"file:{metadata}", f="ffmetadata")["s?"])
        options |= {"map_metadata": "1", "map_chapters": "1"}
    return _compiled(ffmpeg.output(*streams, f"file:{output}", **options))


def last_picture_arguments(
    recipe: Recipe, media: Media, source: str, output: Path, threads: int = 0
) -> list[str]:
    """For a moment after the beginning of the last picture: that one.

    Every picture from the key frame before it is written over the one before.
    """
    found = _input(recipe, media, source, threads, noaccurate_seek=None)
    options = _picture(recipe) | {"map_metadata": "-1", "threads": threads}
    del options["frames:v"]
    stream = found[str(video_stream(media).index)]
    return _compiled(ffmpeg.output(stream, f"file:{output}", **options))


def waveform_arguments(recipe: Recipe, media: Media, source: str, threads: int = 0) -> list[str]:
    """Mono PCM of unsigned bytes at `waveform_rate` on standard output."""
    stream = _input(recipe, media, source, threads)[str(audio_stream(media).index)]
    filters = [_ON_TIME, "aformat=channel_layouts=mono", *_filling(recipe, media)]
    return _compiled(
        ffmpeg.output(
            stream,
            STANDARD_OUTPUT,
            **_part(recipe, media),
            af=",".join(filters),
            ar=waveform_rate(recipe, media),
            f="u8",
            acodec="pcm_u8",
        )
    )


def waveform_rate(recipe: Recipe, media: Media) -> int:
    """Near the media's sample rate, and a multiple of the points a second."""
    rate = min(_WAVEFORM_RATE, audio_stream(media).sample_rate_hz)
    points = recipe.points_per_second
    return points * max(1, round(rate / points))


def _input(recipe: Recipe, media: Media, source: str, threads: int, **more: object) -> Any:
    options: dict[str, Any] = {
        "protocol_whitelist": "file,pipe",
        "format_whitelist": FORMATS,
        "threads": threads,
        **more,
    }
    sought = span(recipe, media).start - _lead(recipe, media)
    if sought > 0:
        options["ss"] = _time(sought)
    return ffmpeg.input(source, **options)


def _lead(recipe: Recipe, media: Media) -> float:
    """Seconds before the start that are decoded for nothing.

    Without an index a seek may lead behind the last key frame before the start.
    """
    return min(_LEAD_SECONDS.get(media.format_name, 0.0), span(recipe, media).start)


def _part(recipe: Recipe, media: Media) -> dict[str, str]:
    part, lead = span(recipe, media), _lead(recipe, media)
    options = {"ss": _time(lead)} if lead else {}
    if recipe.format in PICTURES:
        return options
    if part.reaches_end and (recipe.format == Recipe.FORMAT_MP4 or not is_filled(media)):
        return options
    return options | {"t": _time(part.length)}


def _sound_filters(made: AudioTarget) -> list[str]:
    return [_ON_TIME, f"aformat=channel_layouts={made.layout}"]


def _filling(recipe: Recipe, media: Media) -> list[str]:
    if recipe.format == Recipe.FORMAT_MP4 or not is_filled(media):
        return []
    return [f"apad=whole_dur={_time(_lead(recipe, media) + span(recipe, media).length)}"]


def _loudnorm(*options: str) -> str:
    return "loudnorm=" + ":".join((f"I={TARGET_LUFS:g}", f"TP={TARGET_DBTP:g}", *options))


def _levelled(loudness: Loudness) -> str:
    # A range that is wider than the target would make the filter compress it.
    return _loudnorm(
        f"LRA={min(50.0, max(7.0, loudness.range)):.2f}",
        f"measured_I={loudness.integrated:.2f}",
        f"measured_TP={loudness.true_peak:.2f}",
        f"measured_LRA={loudness.range:.2f}",
        f"measured_thresh={loudness.threshold:.2f}",
        f"offset={loudness.offset:.2f}",
        "linear=true",
    )


def _audio(
    recipe: Recipe, media: Media, made: AudioTarget, loudness: Loudness | None, *, encode: bool
) -> dict[str, Any]:
    if recipe.format == Recipe.FORMAT_MP4 and copies_audio(recipe, media) and not encode:
        return {"c:a": "copy"}
    filters = _sound_filters(made)
    if loudness is not None:
        filters.append(_levelled(loudness))
    filters += _filling(recipe, media)
    return {
        "af": ",".join(filters),
        "ar": made.sample_rate_hz,
        # Ogg and FLAC write what a stream says of itself among the tags.
        "map_metadata:s:a": "-1",
        **_encoder(recipe, made),
    }


def _encoder(recipe: Recipe, made: AudioTarget) -> dict[str, Any]:
    match recipe.format:
        case Recipe.FORMAT_MP3:
            rate: dict[str, Any] = (
                {"q:a": recipe.quality}
                if recipe.HasField("quality")
                else {"b:a": f"{recipe.bitrate_kbps}k", "abr": 0}
            )
            # The Xing header tells players what the encoder added at both ends.
            return {"c:a": "libmp3lame", **rate, "write_xing": 1, "id3v2_version": 0, "f": "mp3"}
        case Recipe.FORMAT_M4A:
            bitrate = f"{recipe.bitrate_kbps}k"
            return {"c:a": "aac", "b:a": bitrate, "f": "ipod", "movflags": "+faststart"}
        case Recipe.FORMAT_OPUS:
            kbps = min(recipe.bitrate_kbps, _OPUS_KBPS_A_CHANNEL * made.channels)
            return {"c:a": "libopus", "b:a": f"{kbps}k", "vbr": "off", "f": "opus"}
        case Recipe.FORMAT_FLAC if recipe.bits_per_sample == 24:
            return {"c:a": "flac", "sample_fmt": "s32", "bits_per_raw_sample": 24, "f": "flac"}
        case Recipe.FORMAT_FLAC:
            return {"c:a": "flac", "sample_fmt": "s16", "f": "flac"}
        case Recipe.FORMAT_WAV:
            return {"c:a": f"pcm_s{recipe.bits_per_sample}le", "rf64": "auto", "f": "wav"}
        case _:
            return {"c:a": "aac", "b:a": f"{_AAC_KBPS_A_CHANNEL * max(1, made.channels)}k"}


def _video(recipe: Recipe, media: Media, *, encode: bool) -> dict[str, Any]:
    container = {"f": "mp4", "movflags": "+faststart"}
    if copies_video(recipe, media) and not encode:
        return {"c:v": "copy", **container}
    width, height = encoded_size(recipe, media)
    return {
        "c:v": "libx264",
        "preset": _PRESET,
        "crf": recipe.quality if recipe.HasField("quality") else _DEFAULT_CRF,
        "pix_fmt": "yuv420p",
        "vf": _resize(recipe, width, height),
        # Pictures keep their own times.
        "fps_mode": "vfr",
        "enc_time_base": "demux",
        **container,
    }


def _resize(recipe: Recipe, width: int, height: int) -> str:
    if recipe.HasField("max_height"):
        return f"scale={width}:{height}:force_original_aspect_ratio=disable"
    return "crop=max(2\\,trunc(iw/2)*2):max(2\\,trunc(ih/2)*2):0:0"


def _picture(recipe: Recipe) -> dict[str, Any]:
    height = f"min(ih\\,{recipe.max_height})" if recipe.HasField("max_height") else "ih"
    filters = (
        # Pixels that are no squares are made so.
        "scale=max(1\\,trunc(iw*sar)):ih",
        f"scale=max(1\\,round(iw*{height}/ih)):{height}",
        "setsar=1",
    )
    png = recipe.format == Recipe.FORMAT_PNG
    kind = (
        {"c:v": "png", "pix_fmt": "rgb24"}
        if png
        else {"c:v": "mjpeg", "pix_fmt": "yuvj420p", "q:v": _JPEG_QUALITY}
    )
    return {**kind, "vf": ",".join(filters), "frames:v": 1, "f": "image2", "update": 1}


def _time(value: float) -> str:
    return f"{value:.6f}"


def _compiled(node: Any) -> list[str]:
    arguments: list[str] = node.get_args()
    return arguments
