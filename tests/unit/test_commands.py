from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import AudioStream, Chapter, FrameRate, Media, VideoStream
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.library.recipes import canonical_recipe
from ingot_server.transcode.commands import (
    convert_arguments,
    measure_arguments,
    waveform_arguments,
)
from ingot_server.transcode.loudness import Loudness
from ingot_server.transcode.plan import Plan, plan_conversion
from ingot_server.transcode.targets import AudioTarget, Size, VideoTarget
from tests.recipes import make_recipe

OUTPUT = Path("/scratch/made")


def clip(*, rate: int = 44100, channels: int = 2, format_name: str = "mov,mp4") -> Media:
    """Ten seconds of H.264 and AAC."""
    media = Media(format_name=format_name, duration=Duration(seconds=10))
    media.video.add(
        index=0,
        codec="h264",
        profile="High",
        pixel_format="yuv420p",
        width=640,
        height=360,
        frame_rate=FrameRate(numerator=25, denominator=1),
    )
    media.audio.add(index=1, codec="aac", profile="LC", sample_rate_hz=rate, channels=channels)
    return media


def song(*, rate: int = 44100) -> Media:
    media = clip(rate=rate)
    del media.video[:]
    return media


def options(arguments: list[str]) -> dict[str, str]:
    """What follows each option; of several, the last."""
    return {
        name: value
        for name, value in zip(arguments, [*arguments[1:], ""], strict=True)
        if name.startswith("-")
    }


def plan(recipe: Recipe, media: Media) -> Plan:
    return plan_conversion(canonical_recipe(recipe), media)


def audio_target(recipe: Recipe, media: Media) -> AudioTarget:
    audio = plan(recipe, media).audio
    assert audio is not None
    return audio


def video_target(recipe: Recipe, media: Media) -> VideoTarget:
    video = plan(recipe, media).video
    assert video is not None
    return video


def convert(
    recipe: Recipe, media: Media, *, loudness: Loudness | None = None, encode: bool = False
) -> list[str]:
    planned = plan(recipe, media)
    return convert_arguments(planned, "file:/scratch/in", OUTPUT, loudness=loudness, encode=encode)


def test_only_files_pipes_and_containers_are_opened() -> None:
    for recipe in (make_recipe("mp3"), make_recipe("mp4"), make_recipe("png")):
        arguments = convert(recipe, clip())
        before = arguments[: arguments.index("-i")]
        assert options(before)["-protocol_whitelist"] == "file,pipe"
        formats = options(before)["-format_whitelist"].split(",")
        assert not {"concat", "hls", "dash", "image2", "lavfi", "sdp", "tty"} & set(formats)


def test_an_mp3_is_named_in_every_number() -> None:
    found = options(convert(make_recipe("mp3"), clip()))
    assert found["-map"] == "0:1"
    assert (found["-c:a"], found["-b:a"], found["-abr"]) == ("libmp3lame", "192k", "0")
    assert found["-ar"] == "44100"
    assert (found["-map_metadata"], found["-map_chapters"]) == ("-1", "-1")
    variable = options(convert(make_recipe("mp3", quality=2), clip()))
    assert variable["-q:a"] == "2"
    assert "-b:a" not in variable


@pytest.mark.parametrize(
    ("recipe", "rate", "made"),
    [
        (make_recipe("mp3"), 44100, 44100),
        (make_recipe("mp3"), 22050, 32000),
        (make_recipe("mp3"), 8000, 32000),
        (make_recipe("mp3"), 96000, 48000),
        (make_recipe("mp3", bitrate_kbps=64), 22050, 22050),
        (make_recipe("mp3", bitrate_kbps=8), 48000, 24000),
        (make_recipe("mp3", quality=4), 11025, 11025),
        (make_recipe("m4a"), 192000, 96000),
        (make_recipe("opus"), 44100, 48000),
        (make_recipe("opus"), 22050, 24000),
        (make_recipe("opus", sample_rate_hz=16000), 44100, 16000),
        (make_recipe("wav"), 11025, 11025),
        (make_recipe("wav", sample_rate_hz=16000), 48000, 16000),
    ],
)
def test_a_sample_rate_that_is_not_asked_for_is_the_nearest(
    recipe: Recipe, rate: int, made: int
) -> None:
    assert audio_target(recipe, clip(rate=rate)).sample_rate_hz == made


def test_more_channels_than_a_format_has_are_mixed() -> None:
    six, twelve = clip(channels=6), clip(channels=12)
    assert audio_target(make_recipe("mp3"), six).layout == "stereo"
    assert audio_target(make_recipe("wav"), six).layout == "5.1"
    assert audio_target(make_recipe("wav"), twelve).layout == "stereo"
    assert audio_target(make_recipe("wav", channels=1), six).layout == "mono"
    low = options(convert(make_recipe("opus", bitrate_kbps=510), clip(channels=1)))
    assert low["-b:a"] == "256k"  # libopus takes no more for one channel.


def test_the_audio_to_hear_is_chosen() -> None:
    plain, best = AudioStream(index=1), AudioStream(index=2, preferred=True)
    comment = AudioStream(index=3, preferred=True, supplementary=True)
    original = AudioStream(index=4, role=AudioStream.ROLE_ORIGINAL)
    for streams, index in (
        ([plain, best], 2),
        ([comment, plain], 1),
        ([comment, plain, best], 2),
        ([comment], 3),
        ([plain], 1),
        ([plain, best, original], 4),
    ):
        media = Media(audio=streams, duration=Duration(seconds=1))
        assert audio_target(make_recipe("wav"), media).index == index


def test_streams_are_copied_only_when_nothing_asks_for_a_change() -> None:
    media = clip()
    for recipe, video, audio in (
        (make_recipe("mp4"), True, True),
        (make_recipe("mp4", max_height=360), True, True),
        (make_recipe("mp4", end=5), True, True),
        (make_recipe("mp4", max_height=240), False, True),
        (make_recipe("mp4", quality=20), False, True),
        (make_recipe("mp4", start=1), False, False),
        (make_recipe("mp4", channels=2), True, False),
        (make_recipe("mp4", sample_rate_hz=44100), True, False),
        (make_recipe("mp4", normalize_loudness=True), True, False),
        (make_recipe("mp4", audio_bitrate_kbps=96), True, False),
    ):
        copied = video_target(recipe, media).copied, audio_target(recipe, media).copied
        assert copied == (video, audio), recipe
        found = options(convert(recipe, media))
        assert found["-c:v"] == ("copy" if video else "libx264")
        assert found["-c:a"] == ("copy" if audio else "aac")
        assert found["-movflags"] == "+faststart"
    assert options(convert(make_recipe("mp4"), media, encode=True))["-c:v"] == "libx264"


@pytest.mark.parametrize(
    "video",
    [
        VideoStream(codec="hevc", pixel_format="yuv420p"),
        VideoStream(codec="h264", profile="High 10", pixel_format="yuv420p10le"),
        VideoStream(codec="h264", profile="High 4:2:2", pixel_format="yuv422p"),
    ],
)
def test_what_no_browser_decodes_is_encoded(video: VideoStream) -> None:
    media = clip()
    media.video[0].MergeFrom(video)
    found = options(convert(make_recipe("mp4"), media))
    assert (found["-c:v"], found["-pix_fmt"]) == ("libx264", "yuv420p")


@pytest.mark.parametrize(
    ("width", "height", "rotation", "most", "size"),
    [
        (640, 360, 0, 0, (640, 360)),
        (321, 241, 0, 0, (320, 240)),
        (640, 360, 0, 180, (320, 180)),
        (640, 360, 0, 181, (320, 180)),
        (640, 360, 0, 720, (640, 360)),
        (640, 360, 90, 320, (180, 320)),
        (640, 360, 90, 400, (224, 400)),
        (640, 360, 180, 180, (320, 180)),
        (1, 1, 0, 0, (2, 2)),
        (10, 4000, 0, 16, (2, 16)),
    ],
)
def test_pictures_are_even_and_no_higher_than_asked_as_they_are_shown(
    width: int, height: int, rotation: int, most: int, size: tuple[int, int]
) -> None:
    media = clip()
    media.video[0].width, media.video[0].height = width, height
    media.video[0].rotation = rotation
    recipe = make_recipe("mp4", **({"max_height": most} if most else {}))
    assert video_target(recipe, media).size == Size(*size)


def test_a_part_is_sought_and_measured() -> None:
    recipe = make_recipe("mp3", start=2, end=5)
    arguments = convert(recipe, clip())
    assert options(arguments[: arguments.index("-i")])["-ss"] == "2.000000"
    assert options(arguments)["-t"] == "3.000000"
    planned = plan(recipe, clip())
    assert (planned.time_range.length, planned.tolerance) == (3, 0.05)
    beyond = make_recipe("mp3", start=2, end=50)
    assert plan(beyond, clip()).time_range.length == 8


def test_what_has_no_index_is_decoded_from_before_the_start() -> None:
    media = clip(format_name="mpegts")
    media.duration.seconds = 60
    arguments = convert(make_recipe("mp3", start=40), media)
    assert options(arguments[: arguments.index("-i")])["-ss"] == "25.000000"
    assert options(arguments[arguments.index("-i") :])["-ss"] == "15.000000"
    assert "apad=whole_dur=35.000000" in options(arguments)["-af"]
    arguments = convert(make_recipe("mp3", start=4), media)
    assert "-ss" not in arguments[: arguments.index("-i")]


def test_sound_of_a_video_lasts_as_long_as_the_video() -> None:
    assert "apad=whole_dur=10.000000" in options(convert(make_recipe("mp3"), clip()))["-af"]
    alone = convert(make_recipe("mp3"), song())
    assert "apad" not in options(alone)["-af"]
    # Its end is that of the stream, unless that goes on and on.
    assert options(alone)["-t"] == "21.000000"


def test_loudness_is_measured_and_then_brought_to_the_target() -> None:
    recipe = make_recipe("mp3", normalize_loudness=True)
    measuring = options(measure_arguments(plan(recipe, song()), "file:/scratch/in"))
    assert measuring["-af"].endswith("loudnorm=I=-16:TP=-1.5:print_format=json")
    levels = Loudness(-23.5, -4.0, 12.25, -33.9, 0.1)
    filters = options(convert(recipe, song(), loudness=levels))["-af"]
    assert "measured_I=-23.50" in filters
    assert "LRA=12.25" in filters
    assert "linear=true" in filters


def test_a_waveform_has_whole_samples_in_every_point() -> None:
    for rate, points, made in ((44100, 20, 44100), (44100, 1000, 44000), (96000, 7, 47999)):
        recipe = make_recipe("waveform", points_per_second=points)
        planned = plan(recipe, song(rate=rate))
        assert planned.waveform is not None
        found = planned.waveform.sample_rate_hz
        assert (found, found % points) == (made, 0)
        arguments = waveform_arguments(planned, "file:/scratch/in")
        assert options(arguments)["-ar"] == str(made)


def test_chapters_are_cut_to_the_part() -> None:
    media = clip()
    for title, start, end in (("a", 0, 3), ("b", 3, 6), ("c", 6, 10)):
        media.chapters.append(
            Chapter(
                title=title, start_offset=Duration(seconds=start), end_offset=Duration(seconds=end)
            )
        )
    recipe = make_recipe("mp3", start=4, end=8)
    chapters = plan(recipe, media).chapters
    assert [(one.title, one.start_offset.seconds, one.end_offset.seconds) for one in chapters] == [
        ("b", 0, 2),
        ("c", 2, 4),
    ]
