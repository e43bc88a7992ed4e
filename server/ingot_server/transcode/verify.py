"""Validation of a conversion: the result is what the plan says, or it is not stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media, VideoStream
from ingot_server.errors import Failure
from ingot_server.library.playable import is_common_picture
from ingot_server.library.recipe_formats import AudioCodec
from ingot_server.transcode.plan import Plan, displayed_size, to_seconds
from ingot_server.transcode.targets import (
    AudioTarget,
    ImageTarget,
    Size,
    StoryboardTarget,
    VideoTarget,
    WaveformTarget,
)

_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_FRAME_MARKERS: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_WRITTEN_SECONDS: Final = 0.1
# ffmpeg's AAC encoder stays near the bit rate, except that every channel needs some bits.
_AAC_EXCESS: Final = 1.5
_AAC_CHANNEL_BPS: Final = 32_000
_AAC_SECONDS: Final = 1.0


def verify_media(plan: Plan, made: Media, path: Path, written_seconds: float) -> None:
    """Compare a probed result with its plan.

    `written_seconds` is how much ffmpeg says it wrote, 0 if it did not say. Raises Failure
    CONVERSION_FAILED, which lists everything that is wrong.
    """
    wrong = [*_stream_problems(plan, made), *_length_problems(plan, made, written_seconds)]
    if plan.audio is not None:
        wrong += _audio_problems(plan.audio, made)
    if plan.video is not None:
        wrong += _video_problems(plan.video, made)
        if not _index_first(path):
            wrong.append("its index does not come first")
    _fail_if(wrong)


def verify_image(plan: Plan, target: ImageTarget, path: Path) -> Size:
    """Return the size of an image. Raises Failure CONVERSION_FAILED if it is not as planned."""
    size = image_size(path, plan.format.content_type)
    if size is None:
        raise _failed(["it is not a complete image"])
    if size.height != target.height:
        raise _failed([f"it is {size.height} pixels high, not {target.height}"])
    return size


def verify_waveform(plan: Plan, target: WaveformTarget, path: Path) -> None:
    """Raise Failure CONVERSION_FAILED unless the file is a waveform of the whole time range."""
    try:
        found = json.loads(path.read_bytes())
        length, data = found["length"], found["data"]
        shown = (found["version"], found["channels"], found["bits"], found["sample_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise _failed(["it is not a waveform"]) from error
    wrong = []
    if shown != (2, 1, 8, target.sample_rate_hz) or len(data) != 2 * length or not length:
        wrong.append("it is not the planned waveform")
    found_seconds = length / target.points_per_second
    expected = plan.time_range.length
    if abs(found_seconds - expected) > plan.tolerance + 1 / target.points_per_second:
        wrong.append(f"it covers {found_seconds:.3f} s, not {expected:.3f} s")
    _fail_if(wrong)


def verify_sheets(target: StoryboardTarget, sheets: Sequence[Path]) -> None:
    """Raise Failure CONVERSION_FAILED unless all sheets of a storyboard are there and whole."""
    layout, tile = target.layout, target.tile
    expected = Size(layout.columns * tile.width, layout.rows * tile.height)
    for number, path in enumerate(sheets, 1):
        size = image_size(path, "image/jpeg")
        if size != expected:
            found = "not a complete image" if size is None else f"{size.width}x{size.height}"
            raise _failed([f"sheet {number} is {found}, not {expected.width}x{expected.height}"])


def image_size(path: Path, content_type: str) -> Size | None:
    """Return the size of a PNG or JPEG; None if the file is not one, or is not complete."""
    data = path.read_bytes() if path.exists() else b""
    if content_type == "image/png":
        whole = data.startswith(_PNG) and data.endswith(b"IEND\xaeB\x60\x82")
        return Size(int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) if whole else None
    if not data.startswith(b"\xff\xd8\xff") or not data.endswith(b"\xff\xd9"):
        return None
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        if data[position + 1] in _FRAME_MARKERS:
            height = int.from_bytes(data[position + 5 : position + 7])
            return Size(int.from_bytes(data[position + 7 : position + 9]), height)
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None


def _stream_problems(plan: Plan, made: Media) -> Iterator[str]:
    if made.format_name != plan.format.container:
        yield f"its container is {made.format_name}, not {plan.format.container}"
    expected = [] if plan.audio is None else [plan.audio.codec_name]
    found = [stream.codec for stream in made.audio]
    if expected and found != expected:
        yield f"its audio is {', '.join(found) or 'missing'}, not {expected[0]}"
    if found and not expected:
        yield "it has audio"
    if made.video and plan.video is None:
        yield "it has video"


def _length_problems(plan: Plan, made: Media, written_seconds: float) -> Iterator[str]:
    expected, found = plan.time_range.length, to_seconds(made.duration)
    differs = written_seconds and abs(found - written_seconds) > _WRITTEN_SECONDS
    if abs(found - expected) > plan.tolerance:
        yield f"it lasts {found:.3f} s, not {expected:.3f} s"
    elif plan.video is None and differs:
        yield f"it lasts {found:.3f} s, and {written_seconds:.3f} s were written"


def _audio_problems(target: AudioTarget, made: Media) -> Iterator[str]:
    if len(made.audio) != 1 or target.copied:
        return
    found = made.audio[0]
    if found.sample_rate_hz != target.decoded_rate_hz:
        yield f"it has {found.sample_rate_hz} samples per second, not {target.decoded_rate_hz}"
    if found.channels != target.channels:
        yield f"it has {found.channels} channels, not {target.channels}"
    bitrate_bps = target.bitrate_kbps * 1000
    if target.codec is AudioCodec.MP3 and bitrate_bps and found.bitrate_bps != bitrate_bps:
        yield f"it has {found.bitrate_bps} bit/s, not {bitrate_bps}"
    # An average: silence needs less, and what is short or has many channels may need more.
    most = _AAC_EXCESS * bitrate_bps + _AAC_CHANNEL_BPS * target.channels
    long_enough = to_seconds(found.duration) >= _AAC_SECONDS
    if target.codec is AudioCodec.AAC and long_enough and found.bitrate_bps > most:
        yield f"its audio has {found.bitrate_bps} bit/s, not about {bitrate_bps}"


def _video_problems(target: VideoTarget, made: Media) -> Iterator[str]:
    if [stream.codec for stream in made.video] != ["h264"]:
        yield "its video is not H.264"
        return
    found = made.video[0]
    if not is_common_picture(found):
        order = VideoStream.FieldOrder.Name(found.field_order)
        yield f"its pictures are {found.pixel_format}, {order}, {found.color_transfer}"
    size = displayed_size(found)
    if target.copied and size == target.source_size:
        return
    if size != target.size:
        expected = target.size
        yield f"it is {size.width}x{size.height}, not {expected.width}x{expected.height}"


def _index_first(path: Path) -> bool:
    """Return whether `moov` comes before `mdat` (ISO/IEC 14496-12)."""
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


def _fail_if(wrong: list[str]) -> None:
    if wrong:
        raise _failed(wrong)


def _failed(wrong: list[str]) -> Failure:
    return Failure(
        reason_pb2.REASON_CONVERSION_FAILED,
        f"The result of ffmpeg is not valid: {'; '.join(wrong)}.",
    )
