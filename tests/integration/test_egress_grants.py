"""What a job may reach the internet with ends with the job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_RUNNING, JOB_STATE_SUCCEEDED, IngestOptions
from ingot_server.config import Settings
from ingot_server.egress.grants import EgressGrant
from ingot_server.egress.proxy import EgressProxy
from ingot_server.setting_values import ByteSize
from tests.harness import Harness, running_harness
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page
from tests.refusals import reason_of
from tests.waiting import TIMEOUT_SECONDS

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]


@pytest.fixture
def grants(monkeypatch: pytest.MonkeyPatch) -> list[EgressGrant]:
    """What the egress proxy has let jobs use so far."""
    issued: list[EgressGrant] = []
    grant = EgressProxy.grant

    def noted(proxy: EgressProxy, *arguments: Any, **options: Any) -> EgressGrant:
        issued.append(grant(proxy, *arguments, **options))
        return issued[-1]

    monkeypatch.setattr(EgressProxy, grant.__name__, noted)
    return issued


async def status_through(grant: EgressGrant, url: str) -> int:
    """How the egress proxy, or the origin behind it, answers a request made with `grant`."""
    async with aiohttp.ClientSession() as session, session.get(url, proxy=grant.proxy_url) as found:
        return found.status


async def assert_none_can_be_used(grants: list[EgressGrant], origin: Origin) -> None:
    url = origin.serve("/probe", Page(b"probe"))
    assert grants
    assert {await status_through(grant, url) for grant in grants} == {407}
    assert not origin.gets("/probe")


def a_file(origin: Origin, content: bytes) -> str:
    return origin.serve("/clip.mp4", Page(content))


def a_page(origin: Origin, content: bytes) -> str:
    return serve_presentation(origin, content)


SOURCES = pytest.mark.parametrize("serve", [a_file, a_page])


async def test_a_grant_can_be_used_until_it_is_revoked(
    harness: Harness, origin: Origin, clip: bytes, grants: list[EgressGrant]
) -> None:
    url = a_file(origin, clip)
    gate = origin.pages["/clip.mp4"].gate = asyncio.Event()
    probe = origin.serve("/probe", Page(b"probe"))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        ending = asyncio.create_task(harness.ingest(url))
        await origin.asked_for("/clip.mp4")
        assert [await status_through(grant, probe) for grant in grants] == [200]
        gate.set()
        await ending


@SOURCES
async def test_no_grant_is_left_of_a_job_that_has_succeeded(
    harness: Harness,
    origin: Origin,
    clip: bytes,
    grants: list[EgressGrant],
    serve: Callable[[Origin, bytes], str],
) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(serve(origin, clip))

    assert job.state == JOB_STATE_SUCCEEDED
    await assert_none_can_be_used(grants, origin)


async def test_no_grant_is_left_of_a_job_that_brought_side_files_alone(
    harness: Harness, origin: Origin, clip: bytes, grants: list[EgressGrant]
) -> None:
    url = serve_presentation(origin, clip)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await harness.ingest(url)
        before = len(grants)
        job = await harness.ingest(url, options=IngestOptions(thumbnail=True))

    assert job.state == JOB_STATE_SUCCEEDED
    assert len(grants) > before
    await assert_none_can_be_used(grants, origin)


@SOURCES
async def test_no_grant_is_left_of_a_job_that_has_failed(
    harness: Harness,
    origin: Origin,
    grants: list[EgressGrant],
    serve: Callable[[Origin, bytes], str],
) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(serve(origin, b"neither audio nor video" * 100))

    assert job.state == JOB_STATE_FAILED
    await assert_none_can_be_used(grants, origin)


@SOURCES
async def test_no_grant_is_left_of_a_job_that_was_cancelled(
    harness: Harness,
    origin: Origin,
    clip: bytes,
    grants: list[EgressGrant],
    serve: Callable[[Origin, bytes], str],
) -> None:
    url = serve(origin, clip)
    path = "/clip.mp4" if serve is a_file else "/lecture.mp4"
    origin.pages[path].gate = asyncio.Event()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ask(url)
        ending = asyncio.create_task(harness.end(job))
        await origin.asked_for(path)
        assert (await harness.record(job.id)).state == JOB_STATE_RUNNING
        await harness.cancel(job)
        await ending

    await assert_none_can_be_used(grants, origin)


@SOURCES
async def test_a_job_that_receives_more_than_it_may_is_too_large(
    settings: Settings,
    origin: Origin,
    clip: bytes,
    serve: Callable[[Origin, bytes], str],
) -> None:
    url = serve(origin, clip)
    path = "/clip.mp4" if serve is a_file else "/lecture.mp4"
    origin.pages[path].silent_after = 20_000
    limited = settings.replace(attempts=1, egress_job_bytes=ByteSize(10_000))
    async with running_harness(limited) as harness, asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ingest(url)

    assert reason_of(job) == reason_pb2.REASON_TOO_LARGE
    assert "INGOT_EGRESS_JOB_BYTES" in job.error.message
