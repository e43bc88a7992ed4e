"""What Prometheus reads of real processes: two API servers on one port, and a worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from ingot import Client, Job, JobState
from ingot_server.access_tokens import SCOPES, entry, new_token
from ingot_server.api.metrics_report import MetricsReport
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.local.local_servers import redis_program, valkey_executable
from ingot_server.redis import Redis
from tests.ingot_process import lines_until, process
from tests.media import media
from tests.origin import Origin, Page, running_origin
from tests.records import claimed_job
from tests.scraped import scrape, scraped
from tests.servers import process as server_process
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

CONNECTIONS = 8


async def ingested(client: Client, url: str) -> Job:
    """The end of the job that ingests `url`."""
    job = await client.ingest_video(url)
    async for state in job:
        last = state
    return last


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as serving:
        yield serving


async def test_one_scrape_has_both_processes_and_a_worker_has_an_address(
    settings: Settings, origin: Origin
) -> None:
    """Requests are answered by either process, and each scrape has what both have counted."""
    clip = Page(media("tiny.mp4").read_bytes())
    origin.pages = {"/clip.mp4": clip, "/gone.mp4": Page(status=404)}
    chosen = settings.replace(metrics_address="127.0.0.1:0", processes=2, attempts=1)
    with process(chosen, "serve") as api, process(chosen.replace(processes=1), "worker") as worker:
        served = lines_until(api, "ingot_server.local.replicas: serving gRPC on")
        metrics = lines_until(worker, "ready for")["metrics"]
        for _ in range(CONNECTIONS):
            async with Client(served["gRPC"]) as client:
                await client.sources()
        async with Client(served["gRPC"]) as client:
            ended = [await ingested(client, f"{origin.base}/clip.mp4") for _ in range(2)]
            gone = await ingested(client, f"{origin.base}/gone.mp4")
        ports = served["HTTP"], served["metrics"]
        of_servers = [await scrape(f"http://{address}/metrics") for address in ports]
        of_worker = await scrape(f"http://{metrics}/metrics")

    assert [job.state for job in ended] == [JobState.JOB_STATE_SUCCEEDED] * 2
    assert gone.state == JobState.JOB_STATE_FAILED
    for found in of_servers:
        calls = {"method": "SourceService/ListSources", "code": "OK"}
        assert found.value("ingot_calls_total", **calls) == CONNECTIONS
        measured = found.value("ingot_call_duration_seconds_count", method=calls["method"])
        assert measured == CONNECTIONS
        assert found.value("ingot_cache_requests_total", result="new") == 2
        assert found.value("ingot_cache_requests_total", result="hit") == 1
        assert found.value("ingot_workers", work="fetch") == 1
        assert found.value("ingot_jobs") == 0
        assert list(found.values("ingot_store_up")) == [1, 1]
    for state, reason in (("SUCCEEDED", ""), ("FAILED", "MEDIA_DOES_NOT_EXIST")):
        labels = {"state": state, "reason": reason, "kind": "INGEST", "source": "http"}
        assert of_worker.value("ingot_jobs_ended_total", **labels) == 1
    assert of_worker.value("ingot_attempts_failed_total", reason="MEDIA_DOES_NOT_EXIST") == 1
    size = ended[0].media.blob.size_bytes
    assert of_worker.value("ingot_stored_bytes_total", source="http") == size
    assert of_worker.value("ingot_received_bytes_total", source="http") > size
    assert of_worker.value("ingot_job_dispatch_delay_seconds_count", work="fetch") == 2
    assert of_worker.value("ingot_job_stage_duration_seconds_count", stage="COMMITTING") == 1
    assert of_worker.value("ingot_scratch_free_bytes") > 0
    assert of_worker.value("ingot_child_processes") == 0
    assert not list(of_worker.values("ingot_calls_total"))


@pytest.mark.parametrize("open_services", ["health", "health,metrics"])
async def test_metrics_need_the_scope_of_the_system_unless_they_are_open(
    settings: Settings, open_services: str
) -> None:
    tokens = {scope: new_token() for scope in SCOPES}
    entries = "".join(entry(token, scope, [scope], None) for scope, token in tokens.items())
    chosen = settings.replace(tokens=entries, open_services=open_services)
    statuses = {}
    async with running(chosen) as addresses, aiohttp.ClientSession() as http:
        for name, token in ({"": ""} | tokens).items():
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with http.get(f"http://{addresses.http}/metrics", headers=headers) as response:
                statuses[name] = response.status

    refused = {"": 401, **dict.fromkeys(tokens, 403), "admin": 200}
    assert statuses == (dict.fromkeys(refused, 200) if "metrics" in open_services else refused)


async def test_metrics_can_be_read_while_redis_is_gone(settings: Settings, tmp_path: Path) -> None:
    unix_socket = tmp_path / "redis.sock"
    with contextlib.ExitStack() as redis:
        redis.enter_context(
            server_process(redis_program(valkey_executable(), tmp_path / "redis", unix_socket))
        )
        async with running(settings.replace(redis_url=f"unix://{unix_socket}")) as addresses:
            url = f"http://{addresses.http}/metrics"
            before = await scrape(url)
            redis.close()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while (found := await scrape(url)).value("ingot_store_up", store="redis"):
                    pass

    assert before.value("ingot_store_up", store="redis") == 1
    assert list(before.values("ingot_jobs", state="QUEUED"))
    assert not list(found.values("ingot_jobs"))
    assert found.value("ingot_store_up", store="s3") == 1


async def test_a_sweep_counts_the_jobs_that_have_lost_their_worker(
    settings: Settings, redis: Redis
) -> None:
    records = Records(redis, settings.replace(lease=timedelta(milliseconds=1)))
    before = await lease_losses()
    await claimed_job(records)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not (overdue := await records.dispatch.sweep(10)):
            pass
    for job_id in overdue * 2:
        await records.recover(job_id)

    assert await lease_losses() == before + 1


async def lease_losses() -> float:
    """How many this process has counted."""
    return scraped((await MetricsReport().text())[0]).value("ingot_lease_losses_total")
