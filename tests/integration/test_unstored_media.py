"""What a job asks the bucket of a media item that its call has not found there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED, Job
from ingot_server.config import Settings
from tests.bucket_proxy import BucketProxy, bucket_behind_proxy
from tests.harness import Harness, running_harness
from tests.origin import Origin, Page
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


@pytest.fixture
async def bucket(settings: Settings) -> AsyncIterator[tuple[BucketProxy, Settings]]:
    async with bucket_behind_proxy(settings) as found:
        yield found


def is_manifest_get(method: str, path: str) -> bool:
    return method == "GET" and "/media.json" in path


def is_alias_get(method: str, path: str) -> bool:
    return method == "GET" and "/alias/" in path


async def test_the_job_of_a_new_url_does_not_look_again(
    bucket: tuple[BucketProxy, Settings], origin: Origin, clip: bytes
) -> None:
    proxy, settings = bucket
    looks = []

    def count(method: str, path: str) -> bool:
        if is_manifest_get(method, path):
            looks.append(path)
        return False

    proxy.refuses = count
    url = origin.serve("/clip.mp4", Page(clip))
    async with asyncio.timeout(TIMEOUT_SECONDS), running_harness(settings) as harness:
        job = await harness.ingest(url)

    assert (job.state, job.cached) == (JOB_STATE_SUCCEEDED, False)
    assert len(looks) == 1


async def test_a_call_that_looked_before_another_job_ended_downloads_nothing(
    bucket: tuple[BucketProxy, Settings], origin: Origin, clip: bytes
) -> None:
    proxy, settings = bucket
    url = origin.serve("/clip.mp4", Page(clip))
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings) as harness,
        # Calls of one server share their looks.
        running_harness(settings) as other,
    ):
        late = await _held_after_its_look(proxy, other, url)
        first = await harness.ingest(url)
        received = origin.bytes_sent("/clip.mp4")
        proxy.release()
        second = await harness.end(await late)

    assert (first.cached, second.state, second.cached) == (False, JOB_STATE_SUCCEEDED, True)
    assert second.id != first.id
    assert origin.bytes_sent("/clip.mp4") == received


async def _held_after_its_look(proxy: BucketProxy, harness: Harness, url: str) -> asyncio.Task[Job]:
    """Begin a call that has found no manifest, and waits to ask for an alias."""
    proxy.hold(is_alias_get)
    call = asyncio.create_task(harness.ask(url))
    await proxy.held()
    proxy.holds = lambda _method, _path: False
    return call
