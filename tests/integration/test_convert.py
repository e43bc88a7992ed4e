"""Conversions from the request to the stored media: real workers, handed the jobs in turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest, IngestResponse
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.caller import Caller
from ingot_server.api.ingest_service import IngestService
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs import lifecycle
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.placement import Work
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.jobs.records import Records
from ingot_server.jobs.workers import this_worker
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.recipes import derived_id
from ingot_server.redis import connect
from ingot_server.worker import Worker
from tests.conversions import ffmpegs, long_sound
from tests.media import media
from tests.origin import Origin, Page, running_origin
from tests.recipes import make_recipe
from tests.refusals import reason_of
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

CALLER = Caller("unix:")
MP3 = make_recipe("mp3")
OPUS = make_recipe("opus")
WAV = make_recipe("wav")


class ConversionHarness:
    """An API and both kinds of worker."""

    def __init__(self, settings: Settings) -> None:
        self.redis = connect(settings)
        self.records = Records(self.redis, settings)
        self.blobs = Blobs(settings)
        self.catalog = Catalog(self.blobs, self.redis, settings)
        self.queue = Queue(celery_app(settings))
        self.service = IngestService(
            self.catalog,
            self.records,
            self.queue,
            self.blobs,
            Feed(self.redis, self.records, settings),
            Previews(self.redis, settings),
            JournalWriter(self.records.journal, self.blobs),
            settings,
        )
        self.worker = Worker(settings)
        self.converter = Worker(settings, [Work.CONVERT])

    async def ingest(self, url: str, *recipes: Recipe) -> Job:
        return await self.ask(IngestRequest(url=url, recipes=recipes))

    async def ask(self, request: IngestRequest) -> Job:
        response = await self.service.ingest(request, CALLER)
        if isinstance(response, bytes):
            response = IngestResponse.FromString(response)
        return response.job

    async def convert(self, recipe: Recipe, **source: str) -> Job:
        request = ConvertRequest(recipe=recipe, **source)  # type: ignore[arg-type]
        return (await self.service.convert(request, CALLER)).job

    async def finish(self, job: Job) -> Job:
        """Runs a job, and what it leaves to others, to the end."""
        await self.run([job.id])
        return await self.look(job.id)

    async def run(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            job = await self.look(job_id)
            if lifecycle.has_ended(job):
                continue
            await (self.converter if lifecycle.is_conversion(job) else self.worker).run_job(job_id)
            await self.run((await self.look(job_id)).child_job_ids)

    async def look(self, job_id: str) -> Job:
        job = await self.records.get(job_id)
        assert job is not None
        return job


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[ConversionHarness]:
    # A hundred callers keep this process so busy that it is slow to notice a connection.
    redis_url = f"{settings.redis_url}?socket_connect_timeout={TIMEOUT_SECONDS:g}"
    slow = settings.replace(redis_url=redis_url, broker_url=settings.redis_url)
    async with AsyncExitStack() as stack:
        made = ConversionHarness(slow.replace(attempts=1))
        stack.push_async_callback(made.redis.aclose)
        stack.push_async_callback(made.blobs.close)
        stack.push_async_callback(made.queue.close)
        await made.worker.start()
        stack.push_async_callback(made.worker.stop)
        await made.converter.start()
        stack.push_async_callback(made.converter.stop)
        await made.catalog.start()
        stack.push_async_callback(made.catalog.close)
        yield made


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running


def serve(origin: Origin, name: str = "plain.mp4") -> str:
    return origin.serve(f"/{name}", Page(media(name).read_bytes()))


async def stored(harness: ConversionHarness, origin: Origin, name: str = "plain.mp4") -> Media:
    job = await harness.finish(await harness.ingest(serve(origin, name)))
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    return job.media


async def test_a_stored_media_becomes_another_one(
    harness: ConversionHarness, origin: Origin
) -> None:
    source = await stored(harness, origin)

    job = await harness.finish(await harness.convert(MP3, media_id=source.id))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    made = job.media
    assert made.id == derived_id(source.id, made.recipe)
    assert (made.derived_from_media_id, made.derived_from_sha256) == (source.id, source.blob.sha256)
    assert made.blob.content_type == "audio/mpeg"
    assert made.recipe.mp3.bitrate_kbps == 192
    assert made.title == source.title
    manifest = await harness.catalog.get(made.id)
    assert manifest is not None
    assert manifest.media == made


async def test_a_worker_for_all_jobs_has_slots_for_conversions_besides_those_of_its_workflows(
    harness: ConversionHarness, origin: Origin, settings: Settings
) -> None:
    url = origin.serve("/long.mp3", Page(long_sound(hours=1)))
    long = (await harness.finish(await harness.ingest(url))).media
    short = await stored(harness, origin)
    dispatch, worker = harness.records.dispatch, Worker(settings.replace(conversions=1), list(Work))
    await worker.start()
    try:
        of_workflow = await harness.convert(OPUS, media_id=long.id)
        converting = asyncio.create_task(worker.run_job(of_workflow.id))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not ffmpegs(os.getpid()):  # noqa: ASYNC110 - it sends no event
                await asyncio.sleep(0.01)
        job = await harness.convert(MP3, media_id=short.id)
        await dispatch.announce(this_worker(), Work.CONVERT, 1)
        taken = [each.job_id for each in (await dispatch.take(Work.CONVERT)).jobs]
        # The worker, which announces itself several times in a lease, may have been faster.
        assert taken in ([job.id], [])

        await worker.run_dispatched(job.id)

        assert (await harness.look(job.id)).state == job_pb2.JOB_STATE_SUCCEEDED
        assert ffmpegs(os.getpid())
        converting.cancel()
    finally:
        await worker.stop()


@pytest.mark.parametrize("name", ["faststart.mp4", "plain.mp4"])
async def test_one_file_is_left_whether_or_not_the_index_comes_first(
    harness: ConversionHarness, origin: Origin, name: str
) -> None:
    source = await stored(harness, origin, name)

    made = (await harness.finish(await harness.convert(MP3, media_id=source.id))).media

    left = {each.key for each in await harness.blobs.list_objects(f"media/{made.id}/")}
    assert left == {f"media/{made.id}/media.json", harness.blobs.key(made.blob.url)}


async def test_a_blob_that_was_changed_is_not_converted(
    harness: ConversionHarness, origin: Origin
) -> None:
    source = await stored(harness, origin, "faststart.mp4")
    content = bytearray(media("faststart.mp4").read_bytes())
    content[-1] ^= 1
    key = harness.blobs.key(source.blob.url)
    await harness.blobs.put(key, bytes(content), content_type="video/mp4")

    job = await harness.finish(await harness.convert(MP3, media_id=source.id))

    assert reason_of(job) == reason_pb2.REASON_MEDIA_DAMAGED
    assert not await harness.blobs.list_objects(f"media/{job.media.id}/")


async def test_what_was_made_is_found_again_without_work(
    harness: ConversionHarness, origin: Origin
) -> None:
    source = await stored(harness, origin)
    made = (await harness.finish(await harness.convert(MP3, media_id=source.id))).media

    again = await harness.convert(make_recipe("mp3", bitrate_kbps=192), url=source.url)

    assert (again.state, again.cached) == (job_pb2.JOB_STATE_SUCCEEDED, True)
    assert again.media == made


async def test_a_hundred_callers_share_one_job(harness: ConversionHarness, origin: Origin) -> None:
    source = await stored(harness, origin)

    jobs = await asyncio.gather(*(harness.convert(MP3, media_id=source.id) for _ in range(100)))

    assert len({job.id for job in jobs}) == 1


async def test_an_ingest_is_followed_by_its_recipes(
    harness: ConversionHarness, origin: Origin
) -> None:
    url = serve(origin)

    job = await harness.finish(await harness.ingest(url, MP3, WAV))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert (job.media.url, job.media.derived_from_media_id) == (url, "")
    assert [made.blob.content_type for made in job.conversions] == ["audio/mpeg", "audio/wav"]
    assert (job.children.total, job.children.succeeded) == (3, 3)
    assert len(origin.log) == 1
    again = await harness.ingest(url, MP3, WAV)
    assert (again.cached, again.conversions) == (True, job.conversions)


@pytest.mark.parametrize(
    "parts", [("clip.ts", "ten_hours_later.ts"), ("vorbis.ogg", "other_vorbis.ogg")]
)
async def test_a_file_whose_clock_jumps_is_converted_as_long_as_it_is(
    harness: ConversionHarness, origin: Origin, parts: Sequence[str]
) -> None:
    content = b"".join(media(part).read_bytes() for part in parts)
    url = origin.serve(f"/{parts[0]}", Page(content, content_type="application/octet-stream"))

    job = await harness.finish(await harness.ingest(url, MP3))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    lengths = [
        each.duration.ToTimedelta().total_seconds() for each in (job.media, *job.conversions)
    ]
    assert lengths == [pytest.approx(4, abs=0.15)] * 2


async def test_a_url_is_ingested_before_it_is_converted(
    harness: ConversionHarness, origin: Origin
) -> None:
    job = await harness.finish(await harness.convert(MP3, url=serve(origin)))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.blob.content_type == "audio/mpeg"
    assert await harness.catalog.get(job.media.derived_from_media_id) is not None


async def test_an_ingest_that_fails_fails_what_was_to_follow(
    harness: ConversionHarness, origin: Origin
) -> None:
    url = origin.serve("/gone.mp4", Page(b"", status=404))

    job = await harness.finish(await harness.ingest(url, MP3))

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(job) == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST


async def test_a_recipe_that_the_media_has_nothing_for_fails_with_its_field(
    harness: ConversionHarness, origin: Origin
) -> None:
    job = await harness.finish(await harness.ingest(serve(origin, "silent.mp4"), MP3))
    assert reason_of(job) == reason_pb2.REASON_INVALID_REQUEST

    with pytest.raises(Failure) as refused:
        await harness.convert(MP3, url=serve(origin, "silent.mp4"))
    assert refused.value.violations == {"recipe.mp3": "needs audio, and the media item has none"}


async def test_media_that_was_replaced_is_converted_again(
    harness: ConversionHarness, origin: Origin
) -> None:
    url = serve(origin)
    source = (await harness.finish(await harness.ingest(url))).media
    first = (await harness.finish(await harness.convert(MP3, media_id=source.id))).media
    origin.serve("/plain.mp4", Page(media("faststart.mp4").read_bytes(), etag='"new"'))
    fresh = IngestRequest(url=url)
    fresh.max_age.FromSeconds(0)
    await harness.finish(await harness.ask(fresh))

    job = await harness.finish(await harness.convert(MP3, media_id=source.id))

    assert not job.cached
    assert job.media.id == first.id
    assert job.media.derived_from_sha256 != first.derived_from_sha256


async def test_progress_of_the_whole_only_grows(harness: ConversionHarness, origin: Origin) -> None:
    job = await harness.ingest(serve(origin), MP3, WAV)
    await harness.finish(job)

    changes = await harness.records.history.of_job(job.id)

    assert changes is not None
    fractions = [each.progress.fraction for each in changes]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


async def test_a_media_that_is_not_stored_is_not_converted(harness: ConversionHarness) -> None:
    with pytest.raises(Failure) as refused:
        await harness.convert(MP3, media_id="a" * 52)
    assert refused.value.reason == reason_pb2.REASON_MEDIA_NOT_FOUND


async def test_what_was_asked_for_as_a_list_and_is_one_media_is_converted(
    harness: ConversionHarness, origin: Origin
) -> None:
    url = serve(origin)
    request = IngestRequest(url=url, recipes=[MP3])
    request.options.playlist = True

    job = await harness.finish(await harness.ask(request))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert (job.media.url, job.media.derived_from_media_id) == (url, "")
    assert [made.blob.content_type for made in job.conversions] == ["audio/mpeg"]


@pytest.mark.parametrize(
    ("recipe", "selection", "mode"),
    [
        (MP3, None, Selection.MODE_AUDIO_ONLY),
        (make_recipe("waveform"), None, Selection.MODE_AUDIO_ONLY),
        (make_recipe("jpeg"), None, Selection.MODE_BEST),
        (MP3, Selection(mode=Selection.MODE_BEST), Selection.MODE_BEST),
        (MP3, Selection(max_height=480), Selection.MODE_BEST),
    ],
)
async def test_of_a_video_site_recipes_of_sound_take_the_sound_alone(
    harness: ConversionHarness, recipe: Recipe, selection: Selection | None, mode: int
) -> None:
    request = ConvertRequest(
        url="https://youtu.be/dQw4-9Wg_cQ", recipe=recipe, selection=selection, validate_only=True
    )
    job = (await harness.service.convert(request, CALLER)).job
    assert job.selection.mode == mode


async def test_a_check_alone_names_what_would_be_made(harness: ConversionHarness) -> None:
    request = ConvertRequest(media_id="a" * 52, recipe=MP3, validate_only=True)
    job = (await harness.service.convert(request, CALLER)).job
    assert not job.id
    assert job.media.id == derived_id("a" * 52, job.recipes[0])
