"""A stand-in for a collector of traces: it receives OTLP over HTTP, and keeps the spans."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

from tests.waiting import TIMEOUT_SECONDS


@dataclass(frozen=True)
class Span:
    """A span as it was received. Ids are hexadecimal, as in a traceparent."""

    service: str
    name: str
    kind: str
    trace_id: str
    id: str
    parent_id: str
    attributes: Mapping[str, Any]
    links: Sequence[str]
    """The ids of other spans, each `trace id-span id`."""
    failed: bool
    message: str
    began: int
    ended: int

    @property
    def full_id(self) -> str:
        return f"{self.trace_id}-{self.id}"


class Collector:
    """What has arrived; `environment` is for the processes that send it."""

    def __init__(self, port: int) -> None:
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20of-the-test",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        self.bodies: list[bytes] = []
        self._spans: list[Span] = []
        self._arrived = threading.Condition()

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace, in the order of their beginnings."""
        with self._arrived:
            found = [span for span in self._spans if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.began)

    def wait(self, condition: Callable[[], object]) -> None:
        """Block until what has arrived fulfils a condition."""
        with self._arrived:
            assert self._arrived.wait_for(condition, TIMEOUT_SECONDS), self._spans

    def receive(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._arrived:
            self.bodies.append(body)
            self._spans += [
                _span(sent, str(_attributes(each.resource.attributes)["service.name"]))
                for each in request.resource_spans
                for scope in each.scope_spans
                for sent in scope.spans
            ]
            self._arrived.notify_all()


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector in threads of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            assert self.headers["Authorization"] == "Basic of-the-test"
            collector.receive(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _span(sent: SentSpan, service: str) -> Span:
    return Span(
        service=service,
        name=sent.name,
        kind=SentSpan.SpanKind.Name(sent.kind).removeprefix("SPAN_KIND_"),
        trace_id=sent.trace_id.hex(),
        id=sent.span_id.hex(),
        parent_id=sent.parent_span_id.hex(),
        attributes=_attributes(sent.attributes),
        links=[f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in sent.links],
        failed=sent.status.code == sent.status.STATUS_CODE_ERROR,
        message=sent.status.message,
        began=sent.start_time_unix_nano,
        ended=sent.end_time_unix_nano,
    )


def _attributes(sent: Sequence[KeyValue]) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in sent}
