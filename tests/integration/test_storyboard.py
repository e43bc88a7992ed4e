"""Storyboards: the picture of a cue is what a player shows at its time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import av
import grpc
import pytest

from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from ingot.v1.media_pb2 import SideFile
from ingot.v1.media_service_pb2 import GetStoryboardRequest, ListMediaRequest
from ingot_server.config import Settings
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import Tags
from ingot_server.transcode.transcoder import Transcoder
from tests.harness import Harness, running_harness
from tests.media import media
from tests.origin import Origin, Page, running_origin
from tests.recipes import make_recipe
from tests.refusals import refusal

CUE = re.compile(r"(\d\d):(\d\d):(\d\d\.\d{3}) --> .*\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)")
FRAMES_PER_SECOND = 10
STEP = 3
# What a frame shows: frame 0 is dark, and each is brighter by STEP than the one before it.
GREY = f"nullsrc=s=64x48:r={FRAMES_PER_SECOND}:d=6,geq=lum=20+{STEP}*N:cb=128:cr=128"


@pytest.fixture
async def tools() -> AsyncIterator[tuple[Ffmpeg, Prober]]:
    settings = Settings()
    prober = Prober(settings)
    prober.start()
    yield Ffmpeg(settings), prober
    await prober.close()


def brightness(sheet: Path, left: int, top: int, width: int, height: int) -> float:
    """The mean luma of a part of a sheet, read by PyAV."""
    with av.open(str(sheet)) as container:
        frame = next(container.decode(video=0))
    plane = frame.planes[0]
    rows = memoryview(plane)
    part = [
        value
        for row in range(top, top + height)
        for value in rows[row * plane.line_size + left : row * plane.line_size + left + width]
    ]
    return sum(part) / len(part)


@pytest.mark.parametrize(
    ("name", "sound", "start", "interval"),
    [
        ("grey.mp4", "", 0, 0.55),
        ("grey.mkv", "", 2.25, 0.7),
        ("grey.ts", "", 1.5, 1),
        ("grey.mp4", "sine=d=8", 0, 1),
    ],
)
async def test_a_picture_is_the_frame_of_its_time(
    tools: tuple[Ffmpeg, Prober],
    tmp_path: Path,
    name: str,
    sound: str,
    start: float,
    interval: float,
) -> None:
    ffmpeg, prober = tools
    path = tmp_path / name
    more = ("-f", "lavfi", "-i", sound) if sound else ()
    await ffmpeg.run_command(
        ["-f", "lavfi", "-i", GREY, *more, "-c:v", "libx264", "-g", "40", "-bf", "2", str(path)],
        output=path,
    )
    recipe = canonical_recipe(
        make_recipe("storyboard", start=start, interval=interval, columns=3, rows=2)
    )
    found = await prober.probe(path)

    made = await Transcoder(ffmpeg, prober).transcode(
        plan_conversion(recipe, found), path, tmp_path, Tags()
    )

    cues = CUE.findall(made.path.read_text())
    length = found.duration.ToTimedelta().total_seconds() - start
    assert len(cues) == -(-round(length * 1000) // round(interval * 1000)) >= 4
    frames = {sheet.name: sheet for sheet in made.sheets}
    for number, (_, _, seconds, sheet, *place) in enumerate(cues):
        assert float(seconds) == pytest.approx(number * interval, abs=0.001)
        shown = min(59, int((start + number * interval) * FRAMES_PER_SECOND + 0.001))
        # The sheet has the full range, the video 16 to 235.
        expected = (20 + STEP * shown - 16) * 255 / 219
        assert brightness(frames[sheet], *map(int, place)) == pytest.approx(expected, abs=2)


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[Harness]:
    async with running_harness(settings.replace(attempts=1)) as running:
        yield running


@pytest.fixture
async def origin(clip: bytes) -> AsyncIterator[Origin]:
    async with running_origin() as running:
        running.serve("/clip.mp4", Page(clip))
        yield running


@pytest.mark.any_stores
@pytest.mark.slow
async def test_a_player_gets_links_to_the_sheets(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    parent = (await harness.ingest(origin.url("/clip.mp4"))).media
    recipe = make_recipe("storyboard", interval=0.5, columns=2, rows=1)
    answer = await harness.api.Convert(ConvertRequest(media_id=parent.id, recipe=recipe))

    job = await harness.end(answer.job)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    stored = job.media
    assert (stored.blob.content_type, stored.format_name) == ("text/vtt", "webvtt")
    sheets = list(stored.side_files)
    assert [(side.kind, side.content_type) for side in sheets] == [
        (SideFile.KIND_STORYBOARD, "image/jpeg")
    ] * 2
    index = (await harness.download(media_id=stored.id)).decode()
    assert {name for *_, name, _, _, _, _ in CUE.findall(index)} == {
        side.url.rpartition("/")[2] for side in sheets
    }

    given = await harness.media.GetStoryboard(GetStoryboardRequest(media_id=stored.id))

    cues = CUE.findall(given.webvtt)
    assert len(cues) == 4
    async with aiohttp.ClientSession() as session:
        for number, (*_, link, left, top, width, height) in enumerate(cues):
            async with session.get(link) as response:
                assert response.headers["Content-Type"] == "image/jpeg"
                sheet = tmp_path / f"{number}.jpg"
                sheet.write_bytes(await response.read())
            assert brightness(sheet, int(left), int(top), int(width), int(height)) > 1
    again = await harness.api.Convert(ConvertRequest(media_id=parent.id, recipe=recipe))
    assert again.job.cached
    assert [each.id for each in (await harness.media.ListMedia(ListMediaRequest())).media] == [
        stored.id,
        parent.id,
    ]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await harness.media.GetStoryboard(GetStoryboardRequest(media_id=parent.id))
    assert refusal(error.value).reason == "MEDIA_NOT_FOUND"
    await harness.delete(stored.id)
    assert not [key for key in await harness.keys("media/") if key.endswith(".jpg")]


@pytest.mark.any_stores
async def test_sound_has_no_storyboard(harness: Harness, origin: Origin) -> None:
    origin.serve("/sound.wav", Page(media("sound.wav").read_bytes()))
    parent = (await harness.ingest(origin.url("/sound.wav"))).media
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await harness.api.Convert(
            ConvertRequest(media_id=parent.id, recipe=make_recipe("storyboard"))
        )
    assert refusal(error.value).fields == {"recipe.storyboard"}
