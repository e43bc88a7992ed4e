"""Whether a browser plays a media as it is: one rule, for people in docs/recipes.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingot.v1.media_pb2 import AudioStream, Media, VideoStream


@dataclass(frozen=True, slots=True)
class Container:
    """What of its streams every current browser decodes in one container."""

    video: frozenset[str] = frozenset()
    audio: frozenset[str] = frozenset()


_MP4: Final = Container(frozenset({"h264"}), frozenset({"aac"}))
_WEBM: Final = Container(frozenset({"vp8", "vp9"}), frozenset({"opus", "vorbis"}))
_PLAYED: Final = {
    "video/mp4": _MP4,
    "audio/mp4": _MP4,
    "video/webm": _WEBM,
    "audio/webm": _WEBM,
    "audio/mpeg": Container(audio=frozenset({"mp3"})),
    "audio/flac": Container(audio=frozenset({"flac"})),
    "audio/wav": Container(audio=frozenset({"pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le"})),
    "audio/ogg": Container(audio=frozenset({"opus", "vorbis"})),
}
_PICTURES: Final = frozenset({"image/png", "image/jpeg"})
_PROFILES: Final = {
    "h264": frozenset(
        {"Constrained Baseline", "Baseline", "Main", "High", "Constrained High", "Progressive High"}
    ),
    "vp9": frozenset({"", "Profile 0"}),
    "aac": frozenset({"", "LC", "HE-AAC", "HE-AACv2"}),
}
_PIXELS: Final = frozenset({"yuv420p", "yuvj420p"})


def is_web_playable(media: Media) -> bool:
    """True when the container and every stream, by codec, profile and pixels, are common ones."""
    if media.blob.content_type in _PICTURES:
        return True
    container = _PLAYED.get(media.blob.content_type)
    if container is None or not (media.video or media.audio):
        return False
    return all(_is_seen(container, stream) for stream in media.video) and all(
        _is_heard(container, stream) for stream in media.audio
    )


def is_common_profile(stream: VideoStream | AudioStream) -> bool:
    """Whether every browser's decoder of the stream's codec has its profile."""
    profiles = _PROFILES.get(stream.codec)
    return profiles is None or stream.profile in profiles


def _is_seen(container: Container, stream: VideoStream) -> bool:
    return (
        stream.codec in container.video
        and stream.pixel_format in _PIXELS
        and is_common_profile(stream)
    )


def _is_heard(container: Container, stream: AudioStream) -> bool:
    return stream.codec in container.audio and is_common_profile(stream)
