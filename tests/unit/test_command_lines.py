"""The whole command line of ffmpeg for a table of recipes, as `command_lines.txt` has it.

The id of a result follows from its parent and recipe alone. With another command line the same id
would name other bytes, so a change of that file has to be meant.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import FrameRate, Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.library.recipes import canonical_recipe
from ingot_server.transcode.commands import (
    convert_arguments,
    last_image_arguments,
    measure_arguments,
    storyboard_arguments,
    waveform_arguments,
)
from ingot_server.transcode.ffmpeg import DEMUXERS
from ingot_server.transcode.loudness import Loudness
from ingot_server.transcode.plan import Plan, plan_conversion
from tests.recipes import make_recipe

SOURCE, OUTPUT, METADATA = "file:/in", Path("/out"), Path("/metadata.txt")
LOUDNESS = Loudness(-23.5, -4.0, 12.25, -33.9, 0.1)
INPUT = f"-format_whitelist {DEMUXERS}"
TWO, FIVE = Duration(seconds=2), Duration(seconds=5)
LINES = dict(
    line.split(": ", 1)
    for line in Path(__file__).with_name("command_lines.txt").read_text().splitlines()
)


def song(format_name: str = "mov,mp4", seconds: int = 10) -> Media:
    media = Media(format_name=format_name, duration=Duration(seconds=seconds))
    media.audio.add(index=1, codec="aac", profile="LC", sample_rate_hz=44100, channels=2)
    return media


def clip(format_name: str = "mov,mp4", seconds: int = 10) -> Media:
    """H.264 and AAC that MP4 takes as they are."""
    media = song(format_name, seconds)
    video = media.video.add(index=0, codec="h264", profile="High", pixel_format="yuv420p")
    video.width, video.height = 640, 360
    video.frame_rate.CopyFrom(FrameRate(numerator=25, denominator=1))
    return media


def turned() -> Media:
    """Odd in size, shown upright, in six channels, and nothing of it can be copied."""
    media = clip("matroska,webm")
    video, audio = media.video[0], media.audio[0]
    video.codec, video.width, video.height, video.rotation = "vp9", 321, 241, 90
    audio.codec, audio.channels = "opus", 6
    return media


CASES: dict[str, tuple[Recipe, Media]] = {
    "MP3 of video": (make_recipe("mp3"), clip()),
    "MP3 of sound": (make_recipe("mp3"), song()),
    "MP3 of a part": (make_recipe("mp3", quality=2, start=2, end=5), clip()),
    "MP3 small": (
        make_recipe("mp3", bitrate_kbps=64, sample_rate_hz=22050, channels=1),
        turned(),
    ),
    "MP3 of MPEG-TS": (make_recipe("mp3", start=40), clip("mpegts", 60)),
    "M4A": (make_recipe("m4a"), clip()),
    "OPUS": (make_recipe("opus"), turned()),
    "OPUS high": (make_recipe("opus", bitrate_kbps=510, channels=1), song()),
    "FLAC": (make_recipe("flac"), song()),
    "FLAC of a part": (make_recipe("flac", bits_per_sample=24, end=5), song()),
    "WAV": (make_recipe("wav", sample_rate_hz=16000), song()),
    "WAV of video": (make_recipe("wav", bits_per_sample=24), turned()),
    "MP4 copied": (make_recipe("mp4"), clip()),
    "MP4 encoded": (make_recipe("mp4"), turned()),
    "MP4 of quality": (make_recipe("mp4", quality=30, channels=1), clip()),
    "MP4 of an audio bit rate": (make_recipe("mp4", audio_bitrate_kbps=96), clip()),
    "MP4 of a part": (make_recipe("mp4", max_height=180, start=2), clip()),
    "MP4 not enlarged": (make_recipe("mp4", max_height=720), turned()),
    "PNG": (make_recipe("png"), clip()),
    "PNG of MPEG-TS": (make_recipe("png", start=2, max_height=64), clip("mpegts", 60)),
    "JPEG": (make_recipe("jpeg", max_height=90), turned()),
}


def plan(recipe: Recipe, media: Media) -> Plan:
    return plan_conversion(canonical_recipe(recipe), media)


def line(arguments: list[str]) -> str:
    return " ".join(arguments).replace(INPUT, "INPUT")


@pytest.mark.parametrize("name", CASES)
def test_the_same_recipe_makes_the_same_command(name: str) -> None:
    arguments = convert_arguments(plan(*CASES[name]), SOURCE, OUTPUT, threads=2)
    assert line(arguments) == LINES[name]


def test_loudness_takes_two_commands() -> None:
    planned = plan(make_recipe("mp3", normalize_loudness=True), clip())
    assert line(measure_arguments(planned, SOURCE, 2)) == LINES["loudness measured"]
    levelled = convert_arguments(planned, SOURCE, OUTPUT, loudness=LOUDNESS, threads=2)
    assert line(levelled) == LINES["loudness levelled"]


def test_tags_come_from_a_file() -> None:
    planned = plan(make_recipe("m4a"), song())
    tagged = convert_arguments(planned, SOURCE, OUTPUT, metadata=METADATA, threads=2)
    assert line(tagged) == LINES["M4A with metadata"]


def test_what_cannot_be_copied_is_encoded() -> None:
    planned = plan(make_recipe("mp4"), clip())
    encoded = convert_arguments(planned, SOURCE, OUTPUT, encode=True, threads=2)
    assert line(encoded) == LINES["MP4 encoded after all"]


def test_the_last_image_has_a_command_of_its_own() -> None:
    planned = plan(make_recipe("png", start=5), clip())
    assert line(last_image_arguments(planned, SOURCE, OUTPUT, 2)) == LINES["last PNG"]


def test_a_storyboard_is_made_in_one_command() -> None:
    planned = plan(make_recipe("storyboard", interval=2.5, start=20), clip("mpegts", 60))
    found = line(storyboard_arguments(planned, SOURCE, "/sheet-%d.jpg", 2))
    assert found == LINES["STORYBOARD of MPEG-TS"]


def test_a_waveform_is_drawn_from_samples() -> None:
    planned = plan(make_recipe("waveform", end=5), clip())
    assert line(waveform_arguments(planned, SOURCE, 2)) == LINES["WAVEFORM"]
