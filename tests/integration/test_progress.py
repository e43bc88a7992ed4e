"""The progress of real jobs, as a watcher sees it: forward only, to exactly 1 at the end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import imageio_ffmpeg
import pytest

from ingot import Client, IngestOptions, Job, JobStage, JobState, Recipe
from ingot.job import IngestJob
from ingot_server.config import Settings
from tests.media import media
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page, running_origin
from tests.running_service import running_service
from tests.waiting import JOB_SECONDS

pytestmark = pytest.mark.any_stores

MP3 = Recipe(mp3=Recipe.Mp3())
WAV = Recipe(wav=Recipe.Wav())
PARTS = 20
LONGEST_PAUSE_SECONDS = 1.0
LARGEST_STEP = 0.3


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with running_service(settings) as target, Client(target) as client:
        yield client


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Noise of two and a half minutes, about 6 MB, with its index first."""
    path = tmp_path_factory.mktemp("sound") / "noise.m4a"
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error"),
            *("-f", "lavfi", "-i", "anoisesrc=duration=150:sample_rate=44100:seed=7"),
            *("-c:a", "aac", "-b:a", "320k", "-movflags", "+faststart", str(path)),
        ],
        check=True,
    )
    return path.read_bytes()


class Pace:
    """Lets a source send the next part of its bytes when the watcher has seen an update.

    So a slow machine makes a slow source, and no large steps.
    """

    def __init__(self, size: int) -> None:
        self._part_bytes = size // PARTS
        self._part = 0
        self._seen = asyncio.Event()

    def note(self, _update: Job) -> None:
        """The watcher has seen an update."""
        self._seen.set()

    async def __call__(self, offset: int) -> None:
        if offset // self._part_bytes == self._part:
            return
        self._part = offset // self._part_bytes
        self._seen.clear()
        # An update may be missing, if the one before has said as much.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_PAUSE_SECONDS):
                await self._seen.wait()


def paced(content: bytes, *, chunked: bool = False) -> tuple[Page, Pace]:
    pace = Pace(len(content))
    return Page(content, pace=pace, chunked=chunked), pace


async def updates_of(
    handle: IngestJob, note: Callable[[Job], None] = lambda _update: None
) -> list[Job]:
    """Return all updates of a job until it has succeeded, after checking what holds for each.

    `note` is called with each when it is seen.
    """
    updates = []
    async with asyncio.timeout(JOB_SECONDS):
        async for update in handle:
            updates.append(update)
            note(update)
    ended = updates[-1]
    assert ended.state == JobState.JOB_STATE_SUCCEEDED, ended
    fractions = [update.progress.fraction for update in updates]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert all(share < 1 for share in fractions[:-1])
    running = [update for update in updates if update.state == JobState.JOB_STATE_RUNNING]
    assert all(update.HasField("progress") and update.stage for update in running)
    return updates


def steps(updates: list[Job]) -> list[float]:
    """Return by how much the fraction grew with each update."""
    return [
        after.progress.fraction - before.progress.fraction for before, after in pairwise(updates)
    ]


async def test_an_ingest_moves_forward_only(client: Client, origin: Origin, sound: bytes) -> None:
    page, pace = paced(sound)
    url = origin.serve("/sound.m4a", page)

    updates = await updates_of(await client.ingest_video(url), pace.note)

    downloading = [each for each in updates if each.stage == JobStage.JOB_STAGE_DOWNLOADING]
    measured = [each.progress for each in downloading if each.progress.stage.bytes_done]
    assert len(measured) > 2
    assert all(0 < each.fraction < 1 for each in measured)
    assert {each.stage.bytes_total for each in measured} == {len(sound)}
    later = [each for each in updates if each.stage > JobStage.JOB_STAGE_DOWNLOADING]
    assert not [each for each in later if each.progress.stage.bytes_done]


async def test_an_ingest_of_unknown_size_moves_forward_only(
    client: Client, origin: Origin, sound: bytes
) -> None:
    page, pace = paced(sound, chunked=True)
    url = origin.serve("/sound.m4a", page)

    updates = await updates_of(await client.ingest_video(url), pace.note)

    downloading = [each for each in updates if each.stage == JobStage.JOB_STAGE_DOWNLOADING]
    assert not any(each.progress.stage.HasField("fraction") for each in downloading)
    assert len({each.progress.fraction for each in downloading}) > 2


async def test_an_extraction_moves_forward_only(
    client: Client, origin: Origin, sound: bytes
) -> None:
    url = serve_presentation(origin, sound, seconds=150)
    pace = origin.pages["/lecture.mp4"].pace = Pace(len(sound))

    updates = await updates_of(await client.ingest_video(url), pace.note)

    assert updates[-1].extraction.extractor
    assert len({each.progress.fraction for each in updates}) > 4


async def test_a_conversion_moves_forward_only(
    client: Client, origin: Origin, sound: bytes
) -> None:
    stored = await (await client.ingest_video(origin.serve("/sound.m4a", Page(sound))))

    updates = await updates_of(await client.convert(stored.id, MP3))

    converting = [each for each in updates if each.stage == JobStage.JOB_STAGE_CONVERTING]
    assert any(each.progress.stage.speed for each in converting)


async def test_an_mp3_from_a_slow_source_makes_no_large_step(
    client: Client, origin: Origin, sound: bytes
) -> None:
    page, pace = paced(sound)
    url = origin.serve("/sound.m4a", page)

    updates = await updates_of(await client.convert(url, MP3), pace.note)

    assert max(steps(updates)) < LARGEST_STEP, [each.progress.fraction for each in updates]
    half = [each for each in updates if each.progress.fraction >= 0.5]
    # The MP3 is encoded while the file arrives, so that the download is most of the time.
    assert half[0].stage == JobStage.JOB_STAGE_DOWNLOADING


class Turns:
    """Lets the entries of a list arrive one after another.

    Each is sent when the watcher has seen the one before it end.
    """

    def __init__(self, count: int) -> None:
        self._turns = [asyncio.Event() for _ in range(count)]
        self._turns[0].set()

    def note(self, update: Job) -> None:
        """The watcher has seen an update of the list."""
        for turn in self._turns[: update.children.succeeded + 1]:
            turn.set()

    def page(self, number: int, content: bytes) -> Page:
        async def wait(_offset: int) -> None:
            await self._turns[number].wait()

        return Page(content, pace=wait)


async def test_a_list_with_recipes_moves_forward_only(client: Client, origin: Origin) -> None:
    content = media("plain.mp4").read_bytes()
    turns = Turns(3)
    urls = [origin.serve(f"/{number}.mp4", turns.page(number, content)) for number in range(3)]
    items = "".join(f"<item><enclosure url='{url}' type='video/mp4'/></item>" for url in urls)
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel>{items}</channel></rss>"
    page = Page(feed.encode(), content_type="application/rss+xml")

    job = await client.ingest_video(
        origin.serve("/feed.xml", page), recipes=[MP3, WAV], options=IngestOptions(playlist=True)
    )
    updates = await updates_of(job, turns.note)

    assert updates[-1].children.succeeded == 3
    # A whole entry is a third, which may be seen at once.
    assert max(steps(updates)) < LARGEST_STEP + 1 / 3
    for child_id in updates[-1].child_job_ids:
        assert (await client.job(child_id)).latest.progress.fraction == 1


async def test_what_is_stored_already_is_done_at_once(client: Client, origin: Origin) -> None:
    url = origin.serve("/clip.mp4", Page(media("plain.mp4").read_bytes()))
    await (await client.ingest_video(url))

    cached = (await client.ingest_video(url)).latest

    assert cached.cached
    assert cached.progress.fraction == 1
