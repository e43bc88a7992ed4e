"""Interlaced, HDR and anamorphic video: what is said of it, and what browsers get of it.

PyAV and ffmpeg's own detector of fields judge the results.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import mean

import av
import pytest

from ingot.v1.media_pb2 import Media, VideoStream
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.library.playable import is_web_playable
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import tags_for
from ingot_server.transcode.transcoder import Transcoder
from tests.media import media
from tests.recipes import make_recipe

SETTINGS = Settings()
BT709 = 1


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    prober = Prober(SETTINGS)
    prober.start()
    yield prober
    await prober.close()


async def convert(prober: Prober, path: Path, wanted: Recipe, directory: Path) -> Path:
    plan = plan_conversion(wanted, await prober.probe(path))
    transcoder = Transcoder(Ffmpeg(SETTINGS), prober)
    made = await transcoder.transcode(plan, path, directory, tags_for(plan))
    return made.path


async def described(prober: Prober, name: str) -> tuple[Media, VideoStream]:
    found = await prober.probe(media(name))
    found.web_playable = is_web_playable(found)
    return found, found.video[0]


async def interlaced_frames(path: Path) -> tuple[int, int]:
    """Return how many frames ffmpeg takes for interlaced, and how many for progressive."""
    result = await Ffmpeg(SETTINGS).run_command(
        ["-i", f"file:{path}", "-vf", "idet", "-an", "-f", "null", "-"],
        source=path,
        log_level="info",
    )
    counts = re.findall(
        r"Multi frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+)", result.log
    )
    top, bottom, progressive = map(int, counts[-1])
    return top + bottom, progressive


def frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("name", ["interlaced.ts", "interlaced.avi", "interlaced.mp4"])
async def test_interlaced_video_becomes_one_frame_of_each_field(
    prober: Prober, tmp_path: Path, name: str
) -> None:
    found, stream = await described(prober, name)
    assert stream.field_order == VideoStream.FIELD_ORDER_TOP_FIRST
    assert not found.web_playable
    assert (await interlaced_frames(media(name)))[0] > 40

    made = await convert(prober, media(name), make_recipe("mp4"), tmp_path)
    interlaced, progressive = await interlaced_frames(made)
    # The detector takes a few frames at the beginning to change its mind.
    assert progressive > 90 > 10 > interlaced
    result = await prober.probe(made)
    assert result.video[0].field_order == VideoStream.FIELD_ORDER_PROGRESSIVE
    assert is_web_playable(result)
    times = [frame.time or 0.0 for frame in frames(made)]
    assert len(times) == pytest.approx(100, abs=2)
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert steps == pytest.approx([0.02] * len(steps), abs=0.001)


async def test_a_picture_of_interlaced_video_has_no_comb(prober: Prober, tmp_path: Path) -> None:
    made = await convert(prober, media("interlaced.ts"), make_recipe("png", start=1), tmp_path)
    whole = frames(made)[0].reformat(format="gray").planes[0]
    rows = [bytes(whole)[row * whole.line_size :][: whole.width] for row in range(whole.height)]

    def difference(distance: int) -> float:
        pairs = zip(rows, rows[distance:], strict=False)
        return mean(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))

    # In a comb, lines resemble those two further on more than their neighbours.
    assert difference(1) < difference(2)


async def test_progressive_video_is_said_to_be_so(prober: Prober) -> None:
    found, stream = await described(prober, "plain.mp4")
    assert stream.field_order == VideoStream.FIELD_ORDER_PROGRESSIVE
    assert not stream.HasField("sample_aspect_ratio")
    assert found.web_playable


@pytest.mark.parametrize(
    ("name", "transfer"), [("hdr.mp4", "smpte2084"), ("hlg.mkv", "arib-std-b67")]
)
@pytest.mark.parametrize("recipe", ["mp4", "png", "jpeg"])
async def test_hdr_becomes_sdr_for_browsers(
    prober: Prober, tmp_path: Path, name: str, transfer: str, recipe: str
) -> None:
    found, stream = await described(prober, name)
    assert stream.color_transfer == transfer
    assert not found.web_playable

    made = await convert(prober, media(name), make_recipe(recipe), tmp_path)
    frame = frames(made)[0]
    if recipe == "mp4":
        result = (await prober.probe(made)).video[0]
        assert (result.color_transfer, result.pixel_format) == ("bt709", "yuv420p")
        assert frame.color_primaries == frame.colorspace == BT709
    if name == "hdr.mp4":
        paper = bytes(frame.reformat(format="rgb24").planes[0])[:3]
        # Without tone mapping white paper is as gray as 148 of 255.
        assert all(200 < value < 245 for value in paper), list(paper)
        assert max(paper) - min(paper) < 4


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [("anamorphic.mp4", (16, 11), (232, 120)), ("tall_pixels.mkv", (8, 9), (142, 120))],
)
async def test_anamorphic_pictures_get_square_pixels(
    prober: Prober, tmp_path: Path, name: str, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    _, stream = await described(prober, name)
    pixel = stream.sample_aspect_ratio
    assert (pixel.width, pixel.height) == shape
    assert (stream.width, stream.height) == (160, 120)

    made = await convert(prober, media(name), make_recipe("mp4"), tmp_path)
    result = (await prober.probe(made)).video[0]
    assert not result.HasField("sample_aspect_ratio")
    assert (result.width, result.height) == size

    lower = await convert(prober, media(name), make_recipe("mp4", max_height=60), tmp_path)
    result = (await prober.probe(lower)).video[0]
    assert (result.width, result.height) == (round(size[0] / 4) * 2, 60)

    picture = frames(await convert(prober, media(name), make_recipe("png"), tmp_path))[0]
    assert abs(picture.width - size[0]) <= 1
    assert picture.height == 120
