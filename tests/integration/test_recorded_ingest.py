"""Ingests with a record_duration, from the call to the stored media."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Selection
from ingot_server.library.identity import media_id
from tests.broadcast import Broadcast
from tests.harness import Harness
from tests.media import media
from tests.origin import Origin, Page
from tests.refusals import reason_name_of, refusal
from tests.waiting import TIMEOUT_SECONDS

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

BEST = Selection(mode=Selection.MODE_BEST)


def recorded(seconds: int) -> IngestOptions:
    return IngestOptions(record_duration=Duration(seconds=seconds))


def length(job: Job) -> float:
    return job.media.duration.ToTimedelta().total_seconds()


async def test_a_live_stream_is_refused(harness: Harness, broadcast: Broadcast) -> None:
    job = await harness.ingest(broadcast.url)

    assert (job.state, reason_name_of(job)) == (job_pb2.JOB_STATE_FAILED, "LIVE_STREAM")
    await harness.assert_nothing_is_left()


async def test_a_recording_is_a_separate_media_item(harness: Harness, broadcast: Broadcast) -> None:
    job = await harness.ingest(broadcast.url, options=recorded(3))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert length(job) == pytest.approx(3, abs=0.3)
    key = f"http:{broadcast.url}"
    assert job.media.id == media_id(key, BEST, timedelta(seconds=3))
    assert job.media.source.key == key
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.get(url=broadcast.url)
    assert refusal(caught.value).reason == "MEDIA_NOT_FOUND"
    assert (await harness.ask(broadcast.url, options=recorded(3))).cached
    assert (await harness.ingest(broadcast.url, options=recorded(2))).media.id != job.media.id


async def test_it_is_recorded_again_when_it_is_too_old(
    harness: Harness, broadcast: Broadcast
) -> None:
    first = await harness.ingest(broadcast.url, options=recorded(2))
    second = await harness.ingest(broadcast.url, options=recorded(2), max_age=Duration())

    assert second.state == job_pb2.JOB_STATE_SUCCEEDED, second
    assert second.media.id == first.media.id
    assert second.media.blob.sha256 != first.media.blob.sha256


async def test_what_is_not_live_is_ingested_as_without_a_limit(
    harness: Harness, origin: Origin
) -> None:
    url = origin.serve("/clip.mp4", Page(media("plain.mp4").read_bytes(), etag='"1"'))

    job = await harness.ingest(url, options=recorded(60))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.id == media_id(f"http:{url}", BEST)
    assert (await harness.manifest(job.media.id)).source_version.http_etag == '"1"'
    assert (await harness.ask(url)).cached
    assert (await harness.ingest(url, options=recorded(60))).cached


async def test_a_playlist_that_has_ended_is_not_a_live_stream(
    harness: Harness, broadcast: Broadcast
) -> None:
    broadcast.ends_at = 6
    url = f"{broadcast.base}/both.m3u8"
    broadcast.playlist("both")

    job = await harness.ingest(url, options=recorded(2))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.id == media_id(f"web:{url}", BEST)
    assert length(job) > 3


async def test_a_cancelled_recording_ends_at_once_and_leaves_nothing(
    harness: Harness, broadcast: Broadcast
) -> None:
    job = await harness.ask(broadcast.url, options=recorded(3600))
    running = asyncio.create_task(harness.worker.run_job(job.id))
    await broadcast.reached("both-7.ts")

    await harness.cancel(job)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await running

    assert (await harness.record(job.id)).state == job_pb2.JOB_STATE_CANCELLED
    await harness.assert_nothing_is_left()
