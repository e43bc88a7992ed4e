"""Small files that announce too much are refused before the work, with what is wrong with them.

The processes that read them have a memory limit and a limit of processor time in any case; here no
file comes near to either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.section.cutter import Cutter
from ingot_server.section.requested import Section
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import Tags
from ingot_server.transcode.transcoder import Transcoder
from tests.excessive_media import matroska, mp4
from tests.recipes import make_recipe

FRAMES_AND_BYTES = "frames, and has only"
STREAMS = "more than 1000 streams"


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    # What needs much of this processor time fails with another reason.
    prober = Prober(Settings(probe_timeout=timedelta(seconds=30)))
    prober.start()
    yield prober
    await prober.close()


def written(directory: Path, data: bytes) -> Path:
    path = directory / "source"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(
            mp4(frames=200_000, rate=1_000_000, chunks=1000), FRAMES_AND_BYTES, id="frame rate"
        ),
        pytest.param(mp4(frames=10**8, rate=1000), FRAMES_AND_BYTES, id="sample table"),
        pytest.param(mp4(frames=3 * 10**7, rate=25, chunks=100_000), FRAMES_AND_BYTES, id="chunks"),
        pytest.param(
            mp4(frames=400_000, rate=25, chunks=100_000), "again and again", id="same bytes"
        ),
        pytest.param(mp4(frames=1, rate=25, tracks=1001), STREAMS, id="MP4 tracks"),
        pytest.param(matroska(tracks=5000), STREAMS, id="Matroska tracks"),
    ],
)
async def test_a_file_that_announces_more_than_it_can_hold_is_refused(
    prober: Prober, tmp_path: Path, data: bytes, message: str
) -> None:
    path = written(tmp_path, data)
    with pytest.raises(Failure, match=message) as caught:
        await prober.probe(path)
    assert reason_name(caught.value.reason) == "NOT_MEDIA"


async def test_a_section_of_such_a_file_is_not_cut(tmp_path: Path) -> None:
    """A few bytes that are named again and again would become gigabytes."""
    path = written(tmp_path, mp4(frames=400_000, rate=1000, chunks=100_000))
    with pytest.raises(Failure, match="again and again") as caught:
        await Cutter(Settings()).cut(path, tmp_path, Section(0.0, 1000.0, exact=False))
    assert reason_name(caught.value.reason) == "NOT_MEDIA"


@pytest.mark.parametrize(
    ("data", "rate"),
    [
        pytest.param(matroska(tracks=1, frame_ns=1000), 25, id="wrong"),
        pytest.param(mp4(frames=600, rate=240), 240, id="high"),
        pytest.param(mp4(frames=1, rate=90_000), 90_000, id="one short frame"),
        pytest.param(matroska(tracks=300), None, id="many tracks"),
    ],
)
async def test_unusual_files_are_media(
    prober: Prober, tmp_path: Path, data: bytes, rate: int | None
) -> None:
    """A time base where a frame rate should be, slow motion, and broadcasts."""
    path = written(tmp_path, data)
    found = await prober.probe(path)
    if rate is not None:
        announced = found.video[0].frame_rate
        assert announced.numerator / announced.denominator == pytest.approx(rate, rel=0.01)
    await converted(prober, path, found, tmp_path)


async def test_a_frame_rate_that_no_video_has_is_stored_and_not_decoded(
    prober: Prober, tmp_path: Path
) -> None:
    path = written(tmp_path, matroska(tracks=1, times_ms=[number // 2 for number in range(4000)]))
    found = await prober.probe(path)
    with pytest.raises(Failure, match="frames per second") as caught:
        await converted(prober, path, found, tmp_path)
    assert reason_name(caught.value.reason) == "CONVERSION_FAILED"


async def converted(prober: Prober, path: Path, found: Media, directory: Path) -> None:
    plan = plan_conversion(canonical_recipe(make_recipe("mp4")), found)
    transcoder = Transcoder(Ffmpeg(Settings()), prober)
    await transcoder.transcode(plan, path, directory, Tags())
