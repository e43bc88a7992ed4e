"""What is too much to decode is refused before ffmpeg starts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ingot.v1.media_pb2 import FrameRate, Media
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipes import canonical_recipe
from ingot_server.transcode.decoding_limits import check_decoding
from ingot_server.transcode.plan import plan_conversion
from tests.recipes import make_recipe

DAY = timedelta(days=1)


def media(
    width: int, height: int, codec: str = "vp9", *, rate: float = 25, seconds: float = 10
) -> Media:
    found = Media(format_name="mov,mp4")
    found.duration.FromMicroseconds(round(seconds * 1e6))
    video = found.video.add(index=0, codec=codec, profile="High", pixel_format="yuv420p")
    video.width, video.height = width, height
    video.frame_rate.CopyFrom(FrameRate(numerator=round(rate * 1000), denominator=1000))
    found.audio.add(index=1, codec="aac", profile="LC", sample_rate_hz=44100, channels=2)
    return found


@pytest.mark.parametrize("name", ["mp4", "image", "storyboard"])
def test_what_has_too_many_pixels_to_decode_is_refused(name: str) -> None:
    plan = plan_conversion(canonical_recipe(make_recipe(name)), media(16_000, 16_000, "vp9"))
    with pytest.raises(Failure, match="16000x16000") as caught:
        check_decoding(plan, DAY)
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
    plan = plan_conversion(canonical_recipe(make_recipe(name)), media(width, 16_000, codec))
    check_decoding(plan, DAY)


@pytest.mark.parametrize(
    ("rate", "seconds", "refused"),
    [
        (1_000_000, 0.2, True),
        (1001, 10, True),
        (90_000, 1 / 90_000, False),
        (120, 36_000, False),
        (240, 36_000, False),
        (960, 60, False),
    ],
)
def test_more_frames_than_a_camera_takes_are_refused(
    rate: float, seconds: float, refused: bool
) -> None:
    found = media(160, 120, rate=rate, seconds=seconds)
    for name in ("mp4", "image", "storyboard"):
        plan = plan_conversion(canonical_recipe(make_recipe(name)), found)
        if not refused:
            check_decoding(plan, DAY)
            continue
        with pytest.raises(Failure, match="frames per second") as caught:
            check_decoding(plan, DAY)
        assert reason_name(caught.value.reason) == "CONVERSION_FAILED"


# Two processors for six hours, the default.
@pytest.mark.parametrize(
    ("width", "height", "rate", "hours", "refused"),
    [
        (7680, 4320, 240, 12, True),
        (7680, 4320, 240, 1, False),
        (3840, 2160, 60, 12, False),
        (1920, 1080, 960, 1, False),
    ],
)
def test_what_takes_longer_than_it_may_is_refused_at_once(
    width: int, height: int, rate: float, hours: float, refused: bool
) -> None:
    found = media(width, height, rate=rate, seconds=3600 * hours)
    allowed = timedelta(hours=12)
    check_decoding(plan_conversion(canonical_recipe(make_recipe("image")), found), allowed)
    part = make_recipe("mp4")
    part.end_offset.FromSeconds(60)
    check_decoding(plan_conversion(canonical_recipe(part), found), allowed)
    plan = plan_conversion(canonical_recipe(make_recipe("mp4")), found)
    if not refused:
        check_decoding(plan, allowed)
        return
    with pytest.raises(Failure, match="INGOT_CONVERSION_TIMEOUT") as caught:
        check_decoding(plan, allowed)
    assert reason_name(caught.value.reason) == "STAGE_TIMEOUT"
