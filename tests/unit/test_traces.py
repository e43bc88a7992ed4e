"""Spans: what they are parts of, what they say, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ingot.v1 import media_service_pb2, reason_pb2
from ingot_server.api.call_trace import begin_trace
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger, JsonFormatter
from ingot_server.log_events import Event
from ingot_server.setting_values import SettingError
from ingot_server.tracing import scopes
from ingot_server.tracing.scopes import Protocol, Scope
from tests.recorded_spans import recording

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE_ID}-{CALLER}-00"
METHOD = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"].full_name + "/GetMedia"


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    with recording() as kept:
        yield kept


def within(work: Callable[[], None]) -> None:
    """Do `work` as a task of its own does."""
    contextvars.copy_context().run(work)


def call(traceparent: str = SAMPLED) -> Scope:
    recorder = scopes.recorder()
    assert recorder is not None
    return scopes.enter(recorder.call(Protocol.GRPC, METHOD, traceparent))


def attributes(span: ReadableSpan) -> dict[str, object]:
    assert span.attributes is not None
    return dict(span.attributes)


def id_of(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


@pytest.mark.parametrize(
    ("sent", "parent"),
    [
        ([("traceparent", SAMPLED)], CALLER),
        ([("traceparent", f"00-{TRACE_ID}-{'1' * 16}-01"), ("traceparent", SAMPLED)], CALLER),
        ([("traceparent", "00-nothing")], None),
        ([("other", SAMPLED)], None),
        (None, None),
    ],
)
def test_a_call_is_a_part_of_what_its_caller_says(
    recorded: InMemorySpanExporter, sent: list[tuple[str, str | bytes]] | None, parent: str | None
) -> None:
    def work() -> None:
        trace = begin_trace(Protocol.GRPC, METHOD, lambda: sent)
        assert trace is not None
        trace.end("OK", None)

    within(work)
    [span] = recorded.get_finished_spans()
    assert (f"{span.parent.span_id:016x}" if span.parent else None) == parent


@pytest.mark.parametrize(
    ("protocol", "code", "sent", "is_fault"),
    [
        (Protocol.GRPC, "OK", "OK", False),
        (Protocol.GRPC, "NOT_FOUND", "NOT_FOUND", False),
        (Protocol.GRPC, "UNAVAILABLE", "UNAVAILABLE", True),
        (Protocol.CONNECT, "OK", None, False),
        (Protocol.CONNECT, "CANCELLED", "canceled", False),
        (Protocol.CONNECT, "INTERNAL", "internal", True),
    ],
)
def test_a_call_has_its_code_as_its_protocol_writes_it(
    recorded: InMemorySpanExporter, protocol: Protocol, code: str, sent: str | None, is_fault: bool
) -> None:
    def work() -> None:
        trace = begin_trace(protocol, METHOD, tuple)
        assert trace is not None
        trace.end(code, None)

    within(work)
    [span] = recorded.get_finished_spans()
    assert span.name == attributes(span)["rpc.method"] == "ingot.v1.MediaService/GetMedia"
    assert attributes(span).get("rpc.response.status_code") == sent
    assert (not span.status.is_ok) == is_fault


def test_a_failed_call_has_its_reason(recorded: InMemorySpanExporter) -> None:
    def work() -> None:
        trace = begin_trace(Protocol.GRPC, METHOD, tuple)
        assert trace is not None
        trace.end("NOT_FOUND", Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, ""))

    within(work)
    assert attributes(recorded.get_finished_spans()[0])["ingot.reason"] == "MEDIA_NOT_FOUND"


async def test_what_other_tasks_do_belongs_to_the_stage_that_the_job_is_in(
    recorded: InMemorySpanExporter,
) -> None:
    entered = asyncio.Event()

    async def send() -> None:
        await entered.wait()
        parent = scopes.parent()
        assert parent is not None
        parent.s3_request("PUT", "http://s3/bucket/key?X-Amz-Signature=abc").end()

    scope = call()
    scope.enter_stage("downloading")
    sending = asyncio.create_task(send())
    scope.enter_stage("storing")
    entered.set()
    await sending
    scope.end()

    downloading, put, storing, whole = recorded.get_finished_spans()
    assert [each.name for each in (downloading, storing)] == ["downloading", "storing"]
    assert put.parent is not None
    assert put.parent.span_id == storing.context.span_id
    assert storing.parent is not None
    assert storing.parent.span_id == whole.context.span_id
    assert attributes(put)["url.full"] == "http://s3/bucket/key"


async def test_a_task_that_outlives_its_call_makes_no_spans_of_it(
    recorded: InMemorySpanExporter,
) -> None:
    ended = asyncio.Event()

    async def linger() -> tuple[object, str]:
        await ended.wait()
        scopes.fail("late", "after the end")
        return scopes.parent(), scopes.traceparent()

    scope = call()
    lingering = asyncio.create_task(linger())
    scope.end()
    ended.set()
    assert await lingering == (None, "")
    [span] = recorded.get_finished_spans()
    assert span.status.is_ok


def test_a_trace_that_is_not_sampled_goes_on_without_spans(recorded: InMemorySpanExporter) -> None:
    def work() -> None:
        scope = call(UNSAMPLED)
        scope.enter_stage("storing")
        assert scopes.parent() is None
        assert scopes.traceparent().startswith(f"00-{TRACE_ID}-")
        assert scopes.traceparent().endswith("-00")
        scope.end()

    within(work)
    assert recorded.get_finished_spans() == ()


def test_an_attempt_is_linked_to_the_one_before(recorded: InMemorySpanExporter) -> None:
    recorder = scopes.recorder()
    assert recorder is not None
    first = recorder.attempt("ingest", SAMPLED, follows="", began=1)
    first.end()
    recorder.attempt("ingest", SAMPLED, follows=first.traceparent, began=2).end()

    before, after = recorded.get_finished_spans()
    assert before.links == ()
    assert [link.context.span_id for link in after.links] == [before.context.span_id]
    assert (before.start_time, after.start_time) == (1, 2)


def test_no_span_has_a_secret(recorded: InMemorySpanExporter) -> None:
    recorder = scopes.recorder()
    assert recorder is not None
    span = recorder.delivery("https://h.example:8443/hook/s3cr3t?token=s3cr3t", "")
    span.set(note="https://user:s3cr3t@h.example/?key=s3cr3t")
    span.fail("problem", "https://h.example/?token=s3cr3t was refused")
    span.end()

    [kept] = recorded.get_finished_spans()
    assert "s3cr3t" not in kept.to_json()
    assert attributes(kept)["server.address"] == "h.example"


def test_only_another_trace_is_linked(recorded: InMemorySpanExporter) -> None:
    def work() -> None:
        scope = call()
        for other in ("", SAMPLED, f"00-{'1' * 32}-{'2' * 16}-01"):
            scopes.link(other)
        scope.end()

    within(work)
    [span] = recorded.get_finished_spans()
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ["1" * 32]


def test_a_line_of_the_log_has_the_trace(recorded: InMemorySpanExporter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    for name in ("ingot_server.example", "a_library"):
        logging.getLogger(name).addHandler(handler)

    def say() -> None:
        EventLogger("ingot_server.example").warning(Event.SERVING, "of Ingot")
        logging.getLogger("a_library").warning("of a library")

    def work() -> None:
        scope = call()
        say()
        scope.end()
        say()

    within(work)
    for name in ("ingot_server.example", "a_library"):
        logging.getLogger(name).removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("trace_id") for line in lines] == [TRACE_ID, TRACE_ID, None, None]


def test_nothing_is_recorded_while_traces_are_off() -> None:
    def sent() -> list[tuple[str, str | bytes]]:
        raise AssertionError("what a caller sends was read")

    assert begin_trace(Protocol.GRPC, METHOD, sent) is None
    assert (scopes.parent(), scopes.traceparent(), scopes.trace_fields()) == (None, "", {})


def test_opentelemetry_is_not_imported_while_traces_are_off() -> None:
    """Not by a library either: redis-py would import it because it is installed."""
    code = (
        "import sys\n"
        "from ingot_server.cli import keep_out_opentelemetry\n"
        "keep_out_opentelemetry()\n"
        "import ingot_server.app, ingot_server.worker_process\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found == "[]\n"


@pytest.mark.parametrize(
    "variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]
)
def test_another_protocol_is_refused(variable: str) -> None:
    with pytest.raises(SettingError, match=f"{variable}='grpc'"):
        Settings.from_environment({"INGOT_TRACING": "on", variable: "grpc"})
    Settings.from_environment({"INGOT_TRACING": "on", variable: "http/protobuf"})
    Settings.from_environment({variable: "grpc"})
