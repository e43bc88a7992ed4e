"""Pictures that are too large to decode are refused before ffmpeg starts."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import FrameRate, Media
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipes import canonical_recipe
from ingot_server.transcode.memory_limit import check_pixels
from ingot_server.transcode.plan import plan_conversion
from tests.recipes import make_recipe


def media(width: int, height: int, codec: str) -> Media:
    found = Media(format_name="mov,mp4", duration=Duration(seconds=10))
    video = found.video.add(index=0, codec=codec, profile="High", pixel_format="yuv420p")
    video.width, video.height = width, height
    video.frame_rate.CopyFrom(FrameRate(numerator=25, denominator=1))
    found.audio.add(index=1, codec="aac", profile="LC", sample_rate_hz=44100, channels=2)
    return found


@pytest.mark.parametrize("name", ["mp4", "image", "storyboard"])
def test_what_has_too_many_pixels_to_decode_is_refused(name: str) -> None:
    plan = plan_conversion(canonical_recipe(make_recipe(name)), media(16_000, 16_000, "vp9"))
    with pytest.raises(Failure, match="16000x16000") as caught:
        check_pixels(plan)
    assert reason_name(caught.value.reason) == "CONVERSION_FAILED"


@pytest.mark.parametrize(
    ("name", "width", "codec"),
    [
        ("mp3", 16_000, "vp9"),
        ("waveform", 16_000, "vp9"),
        ("mp4", 16_000, "h264"),  # It is copied.
        ("mp4", 6_000, "vp9"),
        ("image", 6_000, "vp9"),
    ],
)
def test_the_rest_is_not(name: str, width: int, codec: str) -> None:
    check_pixels(plan_conversion(canonical_recipe(make_recipe(name)), media(width, 16_000, codec)))
