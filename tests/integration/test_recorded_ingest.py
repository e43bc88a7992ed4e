"""Ingests with a record_duration, from the call to the stored media."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Selection
from ingot_server.library.identity import media_id
from tests.broadcast import Broadcast
from tests.house import House, refusal, why
from tests.media import media
from tests.origin import Origin, Page

pytestmark = pytest.mark.any_stores

BEST = Selection(mode=Selection.MODE_BEST)


def recorded(seconds: int) -> IngestOptions:
    return IngestOptions(record_duration=Duration(seconds=seconds))


def length(job: Job) -> float:
    return job.media.duration.ToTimedelta().total_seconds()


async def test_a_live_stream_is_refused(house: House, broadcast: Broadcast) -> None:
    job = await house.ingest(broadcast.url)

    assert (job.state, why(job)) == (job_pb2.JOB_STATE_FAILED, "LIVE_STREAM")
    await house.assert_nothing_is_left()


async def test_a_recording_is_a_media_of_its_own(house: House, broadcast: Broadcast) -> None:
    job = await house.ingest(broadcast.url, options=recorded(3))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert length(job) == pytest.approx(3, abs=0.3)
    key = f"http:{broadcast.url}"
    assert job.media.id == media_id(key, BEST, timedelta(seconds=3))
    assert job.media.source.key == key
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.get(url=broadcast.url)
    assert refusal(caught.value) == "MEDIA_NOT_FOUND"
    assert (await house.ask(broadcast.url, options=recorded(3))).cached
    assert (await house.ingest(broadcast.url, options=recorded(2))).media.id != job.media.id


async def test_it_is_recorded_again_when_it_is_too_old(house: House, broadcast: Broadcast) -> None:
    first = await house.ingest(broadcast.url, options=recorded(2))
    second = await house.ingest(broadcast.url, options=recorded(2), max_age=Duration())

    assert second.state == job_pb2.JOB_STATE_SUCCEEDED, second
    assert second.media.id == first.media.id
    assert second.media.blob.sha256 != first.media.blob.sha256


async def test_what_is_not_live_is_ingested_as_without_a_limit(
    house: House, origin: Origin
) -> None:
    url = origin.serve("/clip.mp4", Page(media("plain.mp4").read_bytes(), etag='"1"'))

    job = await house.ingest(url, options=recorded(60))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.id == media_id(f"http:{url}", BEST)
    assert job.media.freshness.http_etag == '"1"'
    assert (await house.ask(url)).cached
    assert (await house.ingest(url, options=recorded(60))).cached


async def test_a_list_that_has_ended_is_no_live_stream(house: House, broadcast: Broadcast) -> None:
    broadcast.ends_at = 6
    url = f"{broadcast.base}/both.m3u8"
    broadcast.playlist("both")

    job = await house.ingest(url, options=recorded(2))

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.id == media_id(f"web:{url}", BEST)
    assert length(job) > 3


async def test_a_cancelled_recording_ends_at_once_and_leaves_nothing(
    house: House, broadcast: Broadcast
) -> None:
    job = await house.ask(broadcast.url, options=recorded(3600))
    running = asyncio.create_task(house.worker.run(job.id))
    await broadcast.reached("both-7.ts")

    began = time.monotonic()
    await house.cancel(job)
    await running

    assert (await house.record(job.id)).state == job_pb2.JOB_STATE_CANCELLED
    assert time.monotonic() - began < 10, "a second on a machine that has the time"
    await house.assert_nothing_is_left()
