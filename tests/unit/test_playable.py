from __future__ import annotations

import pytest

from ingot.v1.media_pb2 import AudioStream, Media, VideoStream
from ingot_server.library.playable import is_web_playable

H264 = VideoStream(codec="h264", profile="High", pixel_format="yuv420p")
AAC = AudioStream(codec="aac", profile="LC")
VP9 = VideoStream(codec="vp9", profile="Profile 0", pixel_format="yuv420p")
OPUS = AudioStream(codec="opus")


def media(content_type: str, *streams: VideoStream | AudioStream) -> Media:
    found = Media(
        video=[stream for stream in streams if isinstance(stream, VideoStream)],
        audio=[stream for stream in streams if isinstance(stream, AudioStream)],
    )
    found.blob.content_type = content_type
    return found


@pytest.mark.parametrize(
    "found",
    [
        media("video/mp4", H264, AAC),
        media("video/mp4", H264),
        media("audio/mp4", AAC),
        media("video/webm", VP9, OPUS),
        media("video/webm", VideoStream(codec="vp8", pixel_format="yuv420p")),
        media("audio/webm", AudioStream(codec="vorbis")),
        media("audio/mpeg", AudioStream(codec="mp3")),
        media("audio/flac", AudioStream(codec="flac")),
        media("audio/wav", AudioStream(codec="pcm_s16le")),
        media("audio/ogg", OPUS),
        media("image/png"),
        media("image/jpeg"),
    ],
)
def test_what_browsers_play(found: Media) -> None:
    assert is_web_playable(found)


@pytest.mark.parametrize(
    "found",
    [
        media("video/quicktime", H264, AAC),
        media("video/x-matroska", H264, AAC),
        media("video/mp2t", H264, AAC),
        media("video/mp4", VideoStream(codec="hevc", profile="Main", pixel_format="yuv420p"), AAC),
        media("video/mp4", VideoStream(codec="av1", profile="Main", pixel_format="yuv420p"), AAC),
        media("video/mp4", H264, AudioStream(codec="ac3")),
        media("video/mp4", H264, AAC, AudioStream(codec="ac3")),
        media(
            "video/mp4",
            VideoStream(codec="h264", profile="High 10", pixel_format="yuv420p10le"),
            AAC,
        ),
        media(
            "video/mp4",
            VideoStream(codec="h264", profile="High 4:4:4 Predictive", pixel_format="yuv444p"),
        ),
        media("video/webm", VideoStream(codec="vp9", profile="Profile 2", pixel_format="yuv420p")),
        media("video/ogg", VideoStream(codec="theora", pixel_format="yuv420p")),
        media("audio/wav", AudioStream(codec="adpcm_ms")),
        media("audio/aac", AAC),
        media("audio/aiff", AudioStream(codec="pcm_s16be")),
        media("application/json"),
        media("video/mp4"),
    ],
)
def test_what_some_browser_does_not_play(found: Media) -> None:
    assert not is_web_playable(found)
