"""What one audio or video stream of a file says about itself, and how long it lasts.

It runs in the process that opens one file (`probe_main.py`).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Final

from av.audio.codeccontext import AudioCodecContext
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ingot_server.probe.packets import Track, ratio
from ingot_server.process.limits import MAX_FRAME_RATE, is_excessive_rate

MICROSECONDS: Final = 1_000_000

_MAX_TEXT: Final = 4096
_MAX_SECONDS: Final = 100 * 365 * 86400.0
_NEAR_SECONDS: Final = 0.25
_NEAR_SHARE: Final = 0.01
_SUPPLEMENTARY: Final = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
)
# AVFieldOrder; of those that are coded in another order than they are shown, the order of showing.
_FIELD_ORDERS: Final = {
    1: "PROGRESSIVE",
    2: "TOP_FIRST",
    3: "BOTTOM_FIRST",
    4: "BOTTOM_FIRST",
    5: "TOP_FIRST",
}
# ITU-T H.273, table 3.
_COLOR_TRANSFERS: Final = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
# No camera and no standard has a pixel that is less square; what says so is damaged.
_LEAST_SQUARE: Final = 10


def near(announced: float, gap: float) -> float:
    """Return how many seconds the last packet may be away from the announced end.

    A quarter second or 1 % is near enough: the worst complete file was 0.05 s off. The longest
    pause between packets, `gap`, is too, because the last image of a slide show stays as long as
    others.
    """
    return max(_NEAR_SECONDS, announced * _NEAR_SHARE, gap)


def length(announced: float, measured: float, gap: float) -> float:
    """Return how many seconds media lasts: what is announced, if the packets confirm it.

    Otherwise the packets are right. Zero means unknown.
    """
    confirmed = announced and abs(announced - measured) <= near(announced, gap)
    return announced if confirmed else measured or announced


def microseconds(seconds: float) -> int | None:
    """Return at most 100 years; None unless the number is positive and finite."""
    if not 0 < seconds < float("inf"):
        return None
    return round(min(seconds, _MAX_SECONDS) * MICROSECONDS)


def text(found: str) -> str:
    """Return at most 4096 characters; bytes that are not UTF-8 become a replacement mark."""
    return found[:_MAX_TEXT].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def describe(track: Track, gap: float, *, estimated: bool) -> dict[str, Any]:
    """Return what `prober.py` makes a VideoStream or AudioStream of.

    `gap` is the longest pause between packets of the file. `estimated`: the lengths that the file
    announces are guesses.
    """
    stream, context = track.stream, track.stream.codec_context
    seconds = track.end - track.start if track.start is not None and track.end is not None else 0.0
    announced = (stream.duration or 0) * track.scale
    announced = announced or _tagged(stream.metadata.get("DURATION", ""))
    duration = length(0.0 if estimated else announced, seconds, gap)
    bitrate_bps = getattr(context, "bit_rate", 0) or (
        round(track.size_bytes * 8 / seconds) if seconds > 0 else 0
    )
    language = text(stream.metadata.get("language", ""))
    response = {
        "type": stream.type,
        "index": stream.index,
        "codec": track.codec,
        "profile": stream.profile or "",
        "language": "" if language == "und" else language,
        "bitrate_bps": bitrate_bps,
        "duration": microseconds(duration),
    }
    if isinstance(stream, VideoStream):
        response |= {
            "width": getattr(context, "width", 0),
            "height": getattr(context, "height", 0),
            "pixel_format": getattr(context, "pix_fmt", "") or "",
            "frame_rate": _frame_rate(track, seconds),
            "rotation": track.rotation,
            "field_order": _field_order(track),
            "sample_aspect_ratio": _sample_aspect_ratio(stream),
            "color_transfer": _COLOR_TRANSFERS.get(getattr(context, "color_trc", 0), ""),
        }
    else:
        response |= {
            "sample_rate": getattr(context, "sample_rate", 0),
            "channels": context.layout.nb_channels if isinstance(context, AudioCodecContext) else 0,
            "preferred": bool(stream.disposition & Disposition.default),
            "supplementary": bool(stream.disposition & _SUPPLEMENTARY) or _is_commentary(stream),
            "role": _role(stream),
        }
    return response


def _frame_rate(track: Track, seconds: float) -> tuple[int, int] | None:
    """Return what the file announces; what its packets say if either is more than any video has.

    The time base of a file may stand where its frame rate should.
    """
    announced = track.stream.average_rate if isinstance(track.stream, VideoStream) else None
    is_excessive = is_excessive_rate(track.packets, seconds) or ratio(announced) > MAX_FRAME_RATE
    if is_excessive and seconds > 0:
        return _fraction(Fraction(track.packets / seconds).limit_denominator(1000))
    return _fraction(announced)


def _field_order(track: Track) -> str:
    """Return the name of a VideoStream.FieldOrder."""
    order = _FIELD_ORDERS.get(getattr(track.stream.codec_context, "field_order", 0), "UNSPECIFIED")
    if not track.interlaced:
        return order
    # Its own frames know better; which of their fields comes first, they do not tell here.
    return order if order.endswith("FIRST") else "TOP_FIRST"


def _sample_aspect_ratio(stream: VideoStream) -> tuple[int, int] | None:
    found = stream.sample_aspect_ratio
    square = ratio(found) == 1
    likely = 1 / _LEAST_SQUARE <= ratio(found) <= _LEAST_SQUARE
    return _fraction(found) if likely and not square else None


def _role(stream: Stream) -> str:
    """Return the name of an AudioStream.Role."""
    if _is_commentary(stream):
        return "COMMENTARY"
    if stream.disposition & (Disposition.visual_impaired | Disposition.descriptions):
        return "DESCRIBED"
    if stream.disposition & Disposition.dub:
        return "DUBBED"
    return "ORIGINAL" if stream.disposition & Disposition.original else "UNSPECIFIED"


def _is_commentary(stream: Stream) -> bool:
    title = stream.metadata.get("title", "").lower()
    return bool(stream.disposition & Disposition.comment) or "commentary" in title


def _fraction(value: Any) -> tuple[int, int] | None:
    """Return numerator and denominator of what `ratio` accepts; None unless it is positive."""
    return (value.numerator, value.denominator) if ratio(value) > 0 else None


def _tagged(found: str) -> float:
    """Return the seconds of a Matroska tag like `00:01:02.500000000`; 0 for any other text."""
    match = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,9})?)", found)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0
