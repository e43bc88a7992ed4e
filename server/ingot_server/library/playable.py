"""The rule whether browsers play a stored file as it is; docs/recipes.md states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingot.v1.media_pb2 import AudioStream, Media, VideoStream
from ingot_server.library.recipe_formats import RECIPE_FORMATS, FormatKind


@dataclass(frozen=True, slots=True)
class Container:
    """The codecs that every current browser decodes in one container."""

    video: frozenset[str] = frozenset()
    audio: frozenset[str] = frozenset()


_WEBM: Final = Container(frozenset({"vp8", "vp9"}), frozenset({"opus", "vorbis"}))
_CONTAINERS: Final = {
    "video/webm": _WEBM,
    "audio/webm": _WEBM,
    **{
        row.content_type: Container(row.browser_video, row.browser_audio)
        for row in RECIPE_FORMATS.values()
        if row.browser_video or row.browser_audio
    },
}
_IMAGES: Final = frozenset(
    row.content_type for row in RECIPE_FORMATS.values() if row.kind is FormatKind.IMAGE
)
_PROFILES: Final = {
    "h264": frozenset(
        {"Constrained Baseline", "Baseline", "Main", "High", "Constrained High", "Progressive High"}
    ),
    "vp9": frozenset({"", "Profile 0"}),
    "aac": frozenset({"", "LC", "HE-AAC", "HE-AACv2"}),
}
_PIXEL_FORMATS: Final = frozenset({"yuv420p", "yuvj420p"})
_INTERLACED: Final = frozenset(
    {VideoStream.FIELD_ORDER_TOP_FIRST, VideoStream.FIELD_ORDER_BOTTOM_FIRST}
)
# PQ and HLG of ITU-R BT.2100, as ffprobe names them.
_HDR: Final = frozenset({"smpte2084", "arib-std-b67"})


def is_web_playable(media: Media) -> bool:
    """Return whether every current browser plays the file of a media item.

    The container counts, and of every stream the codec, the profile and the form of the picture.
    """
    if media.blob.content_type in _IMAGES:
        return True
    container = _CONTAINERS.get(media.blob.content_type)
    if container is None or not (media.video or media.audio):
        return False
    return all(_plays_video(container, stream) for stream in media.video) and all(
        _plays_audio(container, stream) for stream in media.audio
    )


def is_common_profile(stream: VideoStream | AudioStream) -> bool:
    """Return whether every browser that decodes the stream's codec also decodes its profile."""
    profiles = _PROFILES.get(stream.codec)
    return profiles is None or stream.profile in profiles


def is_common_picture(stream: VideoStream) -> bool:
    """Return whether every browser shows the frames rightly: 8 bits, 4:2:0, progressive, SDR."""
    return (
        stream.pixel_format in _PIXEL_FORMATS and not is_interlaced(stream) and not is_hdr(stream)
    )


def is_interlaced(stream: VideoStream) -> bool:
    """Return whether a frame has two moments, which look like a comb without a filter."""
    return stream.field_order in _INTERLACED


def is_hdr(stream: VideoStream) -> bool:
    """Return whether the frames are too dull on a common screen without tone mapping."""
    return stream.color_transfer in _HDR


def _plays_video(container: Container, stream: VideoStream) -> bool:
    return (
        stream.codec in container.video and is_common_picture(stream) and is_common_profile(stream)
    )


def _plays_audio(container: Container, stream: AudioStream) -> bool:
    return stream.codec in container.audio and is_common_profile(stream)
