"""The traces of real processes, as a collector receives them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from ingot import Client, IngestJob, Job, JobState
from ingot_server.config import Settings
from ingot_server.jobs.journal_index import Accepted
from ingot_server.jobs.records import Records
from ingot_server.jobs.webhook_deliveries import WebhookDeliveries
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.redis import Redis
from ingot_server.setting_values import Secret
from ingot_server.tracing import scopes
from ingot_server.tracing.scopes import Protocol
from tests.ingot_process import lines_until, process
from tests.mediasite import serve_page, serve_presentation
from tests.origin import Origin, Page
from tests.otlp_collector import Collector, Span, collecting
from tests.recipes import make_recipe
from tests.recorded_spans import recording
from tests.records import new_job
from tests.webhook_receiver import receiver

pytestmark = pytest.mark.any_stores

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SECRET = "s3cr3t"
SIGNING = Secret("whsec_" + "bnVt" * 11)


@dataclass
class Ingot:
    """An API server and a worker, and where they send their traces."""

    grpc_address: str
    http_address: str
    collector: Collector


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Ingot]:
    with (
        collecting() as collector,
        process(settings, "serve", environment=collector.environment) as api,
        process(settings, "worker", "--all", environment=collector.environment) as worker,
    ):
        addresses = lines_until(api, "serving gRPC on")
        lines_until(worker, "ready for")
        yield Ingot(addresses["gRPC"], addresses["HTTP"], collector)


@pytest.fixture
def traced(settings: Settings) -> Settings:
    return settings.replace(
        tracing=True,
        retry_backoff=timedelta(milliseconds=10),
        webhook_secrets=SIGNING,
    )


def traceparent(trace_id: str = TRACE_ID) -> str:
    return f"00-{trace_id}-{CALLER}-01"


def names(spans: Sequence[Span]) -> set[str]:
    return {span.name for span in spans}


def one(spans: Sequence[Span], name: str) -> Span:
    [found] = [span for span in spans if span.name == name]
    return found


def path_of(span: Span, spans: Mapping[str, Span]) -> list[str]:
    """The names of a span and of what it is a part of, up to the caller's."""
    path = [span.name]
    while span.parent_id in spans:
        span = spans[span.parent_id]
        path.append(span.name)
    assert span.parent_id == CALLER
    return path


async def end(job: IngestJob) -> Job:
    async for state in job:
        last = state
    return last


async def test_a_job_is_one_trace_from_its_caller_to_the_bucket_and_the_webhook(
    traced: Settings, origin: Origin, clip: bytes
) -> None:
    """The first attempt of the ingest fails, and the second one is linked to it."""
    url = origin.serve("/clip.mp4", Page(status=503, after_first=Page(clip)))
    with running(traced) as ingot:
        async with receiver() as hook:
            metadata = {"traceparent": traceparent()}
            async with Client(ingot.grpc_address, metadata=metadata) as client:
                job = await client.ingest_video(
                    f"{url}?token={SECRET}",
                    recipes=[make_recipe("mp3")],
                    webhook_url=f"{hook.url()}?token={SECRET}",
                )
                assert (await end(job)).state == JobState.JOB_STATE_SUCCEEDED
            [received] = await hook.got(1)
        collector = ingot.collector
        collector.wait(
            lambda: {"webhook", "job ingest_and_convert"} <= names(collector.trace(TRACE_ID))
        )
    spans = collector.trace(TRACE_ID)
    by_id = {span.id: span for span in spans}

    call = one(spans, "ingot.v1.IngestService/Ingest")
    assert (call.kind, call.parent_id, call.service) == ("SERVER", CALLER, "ingot-serve")
    assert call.attributes["rpc.system.name"] == "grpc"
    assert call.attributes["rpc.method"] == "ingot.v1.IngestService/Ingest"
    assert call.attributes["rpc.response.status_code"] == "OK"
    # What the journal gets before the call is answered.
    assert "journal/" in "".join(
        span.attributes["url.full"]
        for span in spans
        if span.parent_id == call.id and span.name == "S3 PUT"
    )

    first, second = [span for span in spans if span.name == "job ingest"]
    assert (first.failed, first.links) == (True, [])
    assert first.attributes["error.type"] == "SOURCE_FAILED"
    assert (second.failed, second.links) == (False, [first.full_id])
    assert [first.attributes["ingot.attempt"], second.attributes["ingot.attempt"]] == [1, 2]
    assert {first.kind, second.kind} == {"CONSUMER"}
    assert {first.service, second.service} == {"ingot-worker"}

    of_second = [span for span in spans if second.id in ancestors(span, by_id)]
    assert {
        *("claim", "resolving", "downloading", "probing", "storing", "committing"),
        *("process probe_main", "S3 PUT"),
    } <= names(of_second)
    [manifest] = [
        span
        for span in of_second
        if span.name == "S3 PUT" and span.attributes["url.full"].endswith("media.json")
    ]
    assert path_of(manifest, by_id)[:3] == ["S3 PUT", "committing", "job ingest"]
    assert (manifest.kind, manifest.attributes["http.response.status_code"]) == ("CLIENT", 200)
    assert path_of(second, by_id)[-1] == call.name
    assert "job convert" in names(spans)
    assert path_of(one(spans, "process ffmpeg"), by_id)[-1] == call.name

    webhook = one(spans, "webhook")
    assert (webhook.kind, webhook.parent_id) == ("CLIENT", call.id)
    assert received.headers["traceparent"] == f"00-{TRACE_ID}-{webhook.id}-01"
    assert all(span.began <= span.ended for span in spans)
    assert not [body for body in collector.bodies if SECRET.encode() in body]


def ancestors(span: Span, spans: Mapping[str, Span]) -> set[str]:
    found = set()
    while span.parent_id in spans:
        found.add(span.parent_id)
        span = spans[span.parent_id]
    return found


async def test_over_connect_and_with_a_child_that_extracts(
    traced: Settings, origin: Origin, clip: bytes
) -> None:
    """Another caller of the same media is linked to the trace of the job that it joins."""
    serve_presentation(origin, clip)
    page = serve_page(origin, "/page")
    origin.pages["/page"].gate = gate = asyncio.Event()
    other = "1" * 32
    with running(traced) as ingot:
        collector = ingot.collector
        address = f"http://{ingot.http_address}"
        async with aiohttp.ClientSession(address) as http:

            async def ingest(trace_id: str) -> str:
                headers = {"traceparent": traceparent(trace_id)}
                call = "/ingot.v1.IngestService/Ingest"
                async with http.post(call, json={"url": page}, headers=headers) as response:
                    return str(json.loads(await response.text())["job"]["id"])

            job_id = await ingest(TRACE_ID)
            assert await ingest(other) == job_id
            gate.set()
            request = {"jobId": job_id}
            async with Client(ingot.grpc_address) as client:
                assert (await end(await client.job(job_id))).state == JobState.JOB_STATE_SUCCEEDED
            async with http.post("/ingot.v1.JobService/GetJob", json=request) as response:
                assert response.status == 200
            missing = {"traceparent": traceparent("2" * 32)}
            lost = {"jobId": "none"}
            async with http.post("/ingot.v1.JobService/GetJob", json=lost, headers=missing) as got:
                assert got.status == 404
        collector.wait(
            lambda: "job ingest" in names(collector.trace(TRACE_ID)) and collector.trace("2" * 32)
        )
    spans = collector.trace(TRACE_ID)
    by_id = {span.id: span for span in spans}

    call = one(spans, "ingot.v1.IngestService/Ingest")
    assert (call.kind, call.parent_id) == ("SERVER", CALLER)
    assert call.attributes["rpc.system.name"] == "connectrpc"
    assert "rpc.response.status_code" not in call.attributes
    extraction = [span for span in spans if span.name == "process child_main"]
    assert extraction
    assert path_of(extraction[-1], by_id)[-2:] == ["job ingest", call.name]

    joined = one(collector.trace(other), call.name)
    assert joined.links == [call.full_id]

    [refused] = collector.trace("2" * 32)
    assert refused.attributes["rpc.response.status_code"] == "not_found"
    assert refused.attributes["ingot.reason"] == "JOB_NOT_FOUND"
    assert not refused.failed


async def test_a_job_that_redis_has_lost_goes_on_in_its_trace(
    settings: Settings, redis: Redis, records: Records, blobs: Blobs
) -> None:
    with recording():
        recorder = scopes.recorder()
        assert recorder is not None
        call = scopes.enter(recorder.call(Protocol.GRPC, "method", traceparent()))
        creation = await records.create(new_job())
        joined = await records.create(new_job())
        call.end()
        untraced = await records.create(new_job("another"))
    assert creation.trace == joined.trace == call.span.traceparent
    assert untraced.trace == ""

    writer = JournalWriter(records.journal, blobs)
    for each in (creation, untraced):
        await writer.enter(Accepted(each.job, "", each.job.media.id, trace=each.trace))
    await redis.flushall()
    assert await writer.restorer.restore() == 2

    claim = await records.claim(creation.job.id)
    assert claim is not None
    assert (claim.trace, claim.former_attempt) == (creation.trace, "")
    await records.renew(claim.job.id, claim.token, attempt_trace="the first attempt")
    await records.release(claim.job.id, claim.token)
    again = await records.claim(creation.job.id)
    assert again is not None
    assert (again.trace, again.former_attempt) == (creation.trace, "the first attempt")
    other = await records.claim(untraced.job.id)
    assert other is not None
    assert other.trace == ""


async def test_a_delivery_keeps_the_trace_of_its_job(redis: Redis, settings: Settings) -> None:
    deliveries = WebhookDeliveries(redis, settings)
    traces = {"traced-1": traceparent(), "untraced-1": ""}
    for name, trace in traces.items():
        await deliveries.restore(name, "http://h/", b"{}", datetime.now(UTC), trace)
    found = await deliveries.get_many(list(traces))
    assert {each.id: each.trace for each in found} == traces
