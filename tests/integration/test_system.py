"""What an installation says of itself: over gRPC and on the command line, from a real server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ingot import watch_command
from ingot.client import Client
from ingot.progress import ProgressDisplay
from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.system_service_pb2 import GetSystemResponse, Problem, WorkerStatus
from ingot_server.api import store_health
from ingot_server.app import running
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.backlog import counted
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.jobs.workers import VERSION, Workers
from ingot_server.redis import Redis, connect
from ingot_server.source_settings import read_source_settings
from ingot_server.worker import Worker
from tests.bucket_proxy import bucket_behind_proxy
from tests.ingot_command import run_command
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores


def summaries(system: GetSystemResponse) -> list[str]:
    return [problem.summary for problem in system.problems]


async def test_waiting_jobs_are_counted_by_kind_with_the_age_of_the_oldest(
    settings: Settings, records: Records
) -> None:
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        job_ids = [
            (await client.ingest_video(f"http://127.0.0.1:9999/{number}.mp4")).id
            for number in range(4)
        ]
        await records.claim(job_ids[2])
        await client.cancel(job_ids[3])
        first = await records.get(job_ids[0])

        system = await client.system()
        await records.claim(job_ids[1])
        await client.cancel(job_ids[0])
        (later,) = (await client.system()).queues

    assert first is not None
    assert system.server_version == VERSION
    (queue,) = system.queues
    assert (queue.kind, queue.queued, queue.running) == (job_pb2.JOB_KIND_INGEST, 2, 1)
    assert queue.oldest_queued_time == first.create_time
    assert (later.queued, later.running) == (0, 2)
    assert not later.HasField("oldest_queued_time")
    assert system.redis_used_bytes > 0


async def test_a_worker_reports_until_it_stops(settings: Settings) -> None:
    worker = Worker(settings)
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        await worker.start()
        status = await first_report(client)
        await worker.stop()
        stopped = await client.system()

    assert (status.version, status.slots, status.running) == (VERSION, settings.worker_slots, 0)
    assert 0 < status.scratch_free_bytes < status.scratch_total_bytes
    assert status.extractor_version
    assert not status.converts
    assert not stopped.workers


async def test_a_worker_for_all_jobs_leaves_none_waiting(settings: Settings) -> None:
    worker = Worker(settings, list(Work))
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        await worker.start()
        status = await first_report(client)
        problems = (await client.system()).problems
        await worker.stop()

    assert status.slots == settings.worker_slots + settings.conversions
    assert status.runs_all_jobs
    assert not problems


async def first_report(client: Client) -> WorkerStatus:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not (workers := (await client.system()).workers):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        (status,) = workers
        return status


async def test_a_worker_that_died_is_forgotten_after_half_a_minute(settings: Settings) -> None:
    async with connect(settings) as redis:
        workers = Workers(redis)
        await report(redis, WorkerStatus(id="gone:1"))
        (alive,) = await workers.living()
        lifetime = await redis.pttl("ingot:worker:gone:1")
        await redis.delete("ingot:worker:gone:1")  # as it expires

        assert alive.id == "gone:1"
        assert 0 < lifetime <= 30_000
        assert not await workers.living()
        assert not await redis.keys("ingot:worker*")


async def report(redis: Redis, status: WorkerStatus) -> None:
    """Report once, as a worker does every few seconds."""
    reporting = asyncio.create_task(Workers(redis).keep_reporting(lambda: status))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await redis.exists(f"ingot:worker:{status.id}"):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    await cancel_and_wait(reporting)


async def test_what_is_wrong_is_said_with_what_to_do(settings: Settings) -> None:
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        async with connect(settings) as redis:
            sources = read_source_settings(settings, ["youtube"])
            await SourceThrottle(redis, sources, settings).record_outcome(
                "youtube", Failure(reason_pb2.REASON_BOT_CHECK, "Sign in to confirm")
            )
            small = WorkerStatus(id="small:1", version="0.0.1", scratch_free_bytes=1)
            await report(redis, small)
        system = await client.system()

    conversions, scratch, version, source = system.problems
    assert conversions.severity == Problem.SEVERITY_ERROR
    assert "conversions wait" in conversions.summary
    assert "ingot-server worker --convert" in conversions.remedy
    assert "small:1 has 0.0 GiB left" in scratch.summary
    assert "runs version 0.0.1" in version.summary
    assert "youtube refuses this installation (BOT_CHECK)" in source.summary
    assert all(problem.remedy for problem in system.problems)


async def test_the_command_shows_it_to_people_and_to_programs(settings: Settings) -> None:
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        await client.ingest_video("http://127.0.0.1:9999/one.mp4")
        shown = await run_command(addresses.grpc, "system")
        printed = await run_command(addresses.grpc, "--json", "system")

    assert (shown.code, printed.code) == (0, 0)
    assert "error: No worker for ingests is running" in shown.stdout
    assert json.loads(printed.stdout)["queues"][0]["queued"] == 1


async def test_a_command_whose_job_waits_says_that_there_is_no_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch_command, "WAITING_SECONDS", 0.1)
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        job = await client.ingest_video("http://127.0.0.1:9999/one.mp4")
        with ProgressDisplay() as display:
            watching = asyncio.create_task(watch_command.show_updates(client, [job], display))
            said = ""
            while "No worker for ingests is running" not in said:
                await asyncio.sleep(0.05)
                said += capsys.readouterr().err
            await cancel_and_wait(watching)

    assert "Start `ingot-server worker`" in said


@pytest.fixture
def quick_health(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_SECONDS", "S3_SECONDS", "AGAIN_SECONDS"):
        monkeypatch.setattr(store_health, name, 0.05)


@pytest.mark.usefixtures("quick_health")
async def test_health_says_what_cannot_be_done_without_redis_or_s3(settings: Settings) -> None:
    async with (
        bucket_behind_proxy(settings) as (proxy, behind),
        running(behind) as addresses,
        grpc.aio.insecure_channel(addresses.grpc) as channel,
        connect(settings) as redis,
        aiohttp.ClientSession(f"http://{addresses.http}") as http,
    ):
        health = {name: Health(channel, name) for name in ("", "Ingest", "Job", "Media", "System")}

        async def healthz() -> int:
            async with http.get("/healthz") as response:
                return int(response.status)

        async def become(*serving: str) -> None:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                for name, each in health.items():
                    await each.becomes(serving=name in serving)

        await become("", "Ingest", "Job", "Media", "System")
        assert await healthz() == 200

        proxy.refuses = lambda _method, _path: True
        await become("Job", "System")
        assert await healthz() == 503

        proxy.refuses = lambda _method, _path: False
        await become("", "Ingest", "Job", "Media", "System")

        # It still answers, but takes no writes.
        await redis.config_set("min-replicas-to-write", 1)
        try:
            await become("Media")
            assert await healthz() == 503
        finally:
            await redis.config_set("min-replicas-to-write", 0)
        await become("", "Ingest", "Job", "Media", "System")
        assert await healthz() == 200
        for each in health.values():
            each.close()


class Health:
    """A watch of the health of one service; the empty name is that of the server."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        service = f"ingot.v1.{name}Service" if name else ""
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
        self._serving: bool | None = None

    async def becomes(self, *, serving: bool) -> None:
        """Wait for a state, which may be there already."""
        while self._serving is not serving:
            response = await self._call.read()
            self._serving = response.status == health_pb2.HealthCheckResponse.SERVING

    def close(self) -> None:
        self._call.cancel()


def test_the_oldest_job_is_found_in_any_order() -> None:
    jobs = [
        Job(state=job_pb2.JOB_STATE_QUEUED, create_time=Timestamp(seconds=at)) for at in (5, 3, 9)
    ]

    (queue,) = counted(jobs)

    assert queue.oldest_queued_time.seconds == 3
