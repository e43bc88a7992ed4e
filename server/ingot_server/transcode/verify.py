"""The gate of a conversion: what came out is what the recipe asks for, or nothing is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.transcode.commands import waveform_rate
from ingot_server.transcode.plan import (
    copies_audio,
    copies_video,
    encoded_size,
    seconds,
    shown_size,
    sound,
    span,
    tolerance,
    video_stream,
)

_MP4: Final = "mov,mp4,m4a,3gp,3g2,mj2"
# Container and codec, for each bits_per_sample where there is more than one.
_FORMS: Final = {
    Recipe.FORMAT_MP3: ("mp3", {0: "mp3"}),
    Recipe.FORMAT_M4A: (_MP4, {0: "aac"}),
    Recipe.FORMAT_OPUS: ("ogg", {0: "opus"}),
    Recipe.FORMAT_FLAC: ("flac", {16: "flac", 24: "flac"}),
    Recipe.FORMAT_WAV: ("wav", {16: "pcm_s16le", 24: "pcm_s24le"}),
    Recipe.FORMAT_MP4: (_MP4, {0: "aac"}),
}
_OPUS_DECODED_HZ: Final = 48000
_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_FRAME_MARKERS: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def verify_media(recipe: Recipe, media: Media, made: Media, path: Path, ran_seconds: float) -> None:
    """Compares a probed result with what the recipe makes of `media`.

    `ran_seconds` is how much play ffmpeg says that it wrote, 0 when it did not. Raises Failure
    CONVERSION_FAILED with all that is wrong.
    """
    wrong = [*_container(recipe, media, made), *_length(recipe, media, made, ran_seconds)]
    if media.audio:
        wrong += _sound(recipe, media, made)
    if recipe.format == Recipe.FORMAT_MP4:
        wrong += _pictures(recipe, media, made)
        if not _index_first(path):
            wrong.append("its index does not come first")
    _refuse(wrong)


def verify_picture(recipe: Recipe, media: Media, path: Path) -> tuple[int, int]:
    """Width and height of the picture that came out. Raises Failure CONVERSION_FAILED."""
    size = picture_size(path, recipe.format)
    if size is None:
        _refuse(["it is no such picture"])
        raise AssertionError
    height = shown_size(video_stream(media))[1]
    if recipe.HasField("max_height"):
        height = min(height, recipe.max_height)
    if size[1] != height:
        _refuse([f"it is {size[1]} pixels high, not {height}"])
    return size


def verify_waveform(recipe: Recipe, media: Media, path: Path) -> None:
    """Raises Failure CONVERSION_FAILED unless it is a waveform of the whole span."""
    try:
        found = json.loads(path.read_bytes())
        length, data = found["length"], found["data"]
        shown = (found["version"], found["channels"], found["bits"], found["sample_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise _failed(["it is no waveform"]) from error
    wrong = []
    if shown != (2, 1, 8, waveform_rate(recipe, media)) or len(data) != 2 * length or not length:
        wrong.append("it is no such waveform")
    length_seconds = length / recipe.points_per_second
    allowed = tolerance(recipe, media) + 1 / recipe.points_per_second
    expected = span(recipe, media).length
    if abs(length_seconds - expected) > allowed:
        wrong.append(f"it covers {length_seconds:.3f} s, not {expected:.3f} s")
    _refuse(wrong)


def picture_size(path: Path, form: Recipe.Format.ValueType) -> tuple[int, int] | None:
    """What the head of a PNG or JPEG says; None when it is none, or not whole."""
    data = path.read_bytes() if path.exists() else b""
    if form == Recipe.FORMAT_PNG:
        whole = data.startswith(_PNG) and data.endswith(b"IEND\xaeB\x60\x82")
        return (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) if whole else None
    if not data.startswith(b"\xff\xd8\xff") or not data.endswith(b"\xff\xd9"):
        return None
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        if data[position + 1] in _FRAME_MARKERS:
            height = int.from_bytes(data[position + 5 : position + 7])
            return int.from_bytes(data[position + 7 : position + 9]), height
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None


def _container(recipe: Recipe, media: Media, made: Media) -> Iterator[str]:
    container, codecs = _FORMS[recipe.format]
    if made.format_name != container:
        yield f"its container is {made.format_name}, not {container}"
    codec = codecs[recipe.bits_per_sample]
    found = [stream.codec for stream in made.audio]
    if found != ([codec] if media.audio else []):
        yield f"its audio is {', '.join(found) or 'missing'}, not {codec}"
    if made.video and recipe.format != Recipe.FORMAT_MP4:
        yield "it has video"


def _length(recipe: Recipe, media: Media, made: Media, ran_seconds: float) -> Iterator[str]:
    expected, found = span(recipe, media).length, seconds(made.duration)
    if abs(found - expected) > tolerance(recipe, media):
        yield f"it lasts {found:.3f} s, not {expected:.3f} s"
    elif recipe.format != Recipe.FORMAT_MP4 and ran_seconds and abs(found - ran_seconds) > 0.1:
        yield f"it lasts {found:.3f} s, and {ran_seconds:.3f} s were written"


def _sound(recipe: Recipe, media: Media, made: Media) -> Iterator[str]:
    if len(made.audio) != 1:
        return
    found, asked = made.audio[0], sound(recipe, media)
    if recipe.format == Recipe.FORMAT_MP4 and copies_audio(recipe, media):
        return
    rate = _OPUS_DECODED_HZ if recipe.format == Recipe.FORMAT_OPUS else asked.sample_rate_hz
    if found.sample_rate_hz != rate:
        yield f"it has {found.sample_rate_hz} samples a second, not {rate}"
    if found.channels != asked.channels:
        yield f"it has {found.channels} channels, not {asked.channels}"
    constant = recipe.format == Recipe.FORMAT_MP3 and recipe.HasField("bitrate_kbps")
    if constant and found.bit_rate != recipe.bitrate_kbps * 1000:
        yield f"it has {found.bit_rate} bit/s, not {recipe.bitrate_kbps * 1000}"


def _pictures(recipe: Recipe, media: Media, made: Media) -> Iterator[str]:
    if [stream.codec for stream in made.video] != ["h264"]:
        yield "its video is not H.264"
        return
    found = made.video[0]
    if found.pixel_format not in {"yuv420p", "yuvj420p"}:
        yield f"its pixels are {found.pixel_format}"
    size = encoded_size(recipe, media)
    shown = shown_size(found)
    if copies_video(recipe, media) and shown == shown_size(video_stream(media)):
        return
    if shown != size:
        yield f"it is {shown[0]}x{shown[1]}, not {size[0]}x{size[1]}"


def _index_first(path: Path) -> bool:
    """Whether `moov` comes before `mdat` (ISO/IEC 14496-12)."""
    with path.open("rb") as file:
        position = 0
        for _ in range(16):
            file.seek(position)
            header = file.read(16)
            kind, length = header[4:8], int.from_bytes(header[:4])
            if kind in {b"moov", b"mdat"}:
                return kind == b"moov"
            length = int.from_bytes(header[8:16]) if length == 1 else length
            if length < 8:
                return False
            position += length
    return False


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise _failed(wrong)


def _failed(wrong: list[str]) -> Failure:
    return Failure(
        reason_pb2.REASON_CONVERSION_FAILED, f"What ffmpeg made is not right: {'; '.join(wrong)}."
    )
