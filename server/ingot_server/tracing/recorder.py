"""The spans of Ingot as OpenTelemetry records them: their names, kinds and attributes.

Calls follow the conventions for RPC, which are stable since version 1.45,
https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans; requests to S3 and to receivers of
webhooks those for HTTP. What has no convention begins with `ingot.`. Secrets are cut out of every
text, and queries out of URLs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.semconv._incubating.attributes import process_attributes as process
from opentelemetry.semconv._incubating.attributes import rpc_attributes as rpc
from opentelemetry.semconv.attributes import error_attributes as errors
from opentelemetry.semconv.attributes import http_attributes as http
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.semconv.attributes import url_attributes as urls
from opentelemetry.trace import Link, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ingot_server.redaction import redact
from ingot_server.tracing.scopes import Protocol

Value: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Value]

_W3C: Final = TraceContextTextMapPropagator()
_SYSTEMS: Final = {
    Protocol.GRPC: rpc.RpcSystemNameValues.GRPC.value,
    Protocol.CONNECT: rpc.RpcSystemNameValues.CONNECTRPC.value,
}
_CONNECT_CODES: Final = {"CANCELLED": "canceled"}
# What is the server's fault: https://opentelemetry.io/docs/specs/semconv/rpc/grpc
_FAULTS: Final = frozenset(
    "UNKNOWN DEADLINE_EXCEEDED UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS".split()
)
_FIRST_ERROR: Final = 400
# An object that is absent, and a condition that does not hold, are answers.
_ANSWERS: Final = frozenset({404, 412})


class Span:
    """A span that has begun. Its methods may be called from any thread, also after its end."""

    __slots__ = ("_span", "_tracer", "is_recorded")

    def __init__(self, tracer: Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        self.is_recorded = span.is_recording()
        """Whether it is sampled."""

    @property
    def trace_id(self) -> str:
        """The id of its trace, 32 hexadecimal digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def traceparent(self) -> str:
        """It as a parent, https://www.w3.org/TR/trace-context/#traceparent-header."""
        context = self._span.get_span_context()
        return f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}"

    def shares_trace(self, traceparent: str) -> bool:
        """Tell whether the span of a `traceparent` is in the same trace."""
        return traceparent.split("-")[1:2] == [self.trace_id]

    def set(self, **attributes: Value) -> None:
        """Set attributes `ingot.<name>`."""
        for name, value in attributes.items():
            self._span.set_attribute(f"ingot.{name}", _redacted(value))

    def link(self, traceparent: str) -> None:
        """Link it to another span."""
        for link in _links(traceparent):
            self._span.add_link(link.context)

    def fail(self, error_type: str, message: str = "") -> None:
        """Note what its work has failed with: a reason, a code or a status."""
        self._span.set_attribute(errors.ERROR_TYPE, error_type)
        self._span.set_status(StatusCode.ERROR, redact(message) or None)

    def part(self, name: str, *, began: int | None = None) -> Span:
        """Begin a part of it, of what Ingot does itself; it `began` as in `Recorder.attempt`."""
        return self._begin_part(name, SpanKind.INTERNAL, {}, began)

    def child(self, name: str, pid: int) -> Span:
        """Begin the span of a process that runs for it."""
        attributes: dict[str, Value] = {
            process.PROCESS_EXECUTABLE_NAME: name,
            process.PROCESS_PID: pid,
        }
        return self._begin_part(f"process {name}", SpanKind.INTERNAL, attributes)

    def s3_request(self, method: str, url: str) -> Span:
        """Begin the span of a request to the bucket. The query of the URL is left out."""
        attributes: dict[str, Value] = {
            http.HTTP_REQUEST_METHOD: method,
            urls.URL_FULL: url.partition("?")[0],
            **_host(url),
        }
        return self._begin_part(f"S3 {method}", SpanKind.CLIENT, attributes)

    def _begin_part(
        self, name: str, kind: SpanKind, attributes: Attributes, began: int | None = None
    ) -> Span:
        parent = trace.set_span_in_context(self._span, Context())
        return _begin(self._tracer, name, kind, parent, attributes, began=began)

    def end_call(self, protocol: Protocol, code: str) -> None:
        """Note the code that a call has ended with, `OK` or the name of a gRPC code."""
        if protocol is Protocol.CONNECT:
            # Its codes are written so, and success has none.
            sent = "" if code == "OK" else _CONNECT_CODES.get(code, code.lower())
        else:
            sent = code
        if sent:
            self._span.set_attribute(rpc.RPC_RESPONSE_STATUS_CODE, sent)
        if code in _FAULTS:
            self.fail(sent)

    def end_request(self, status: int) -> None:
        """Note the status of a response of the bucket."""
        self._span.set_attribute(http.HTTP_RESPONSE_STATUS_CODE, status)
        if status >= _FIRST_ERROR and status not in _ANSWERS:
            self.fail(str(status))

    def end_child(self, code: int | None) -> None:
        """Note how a process has ended; None if it was no longer needed."""
        if code is not None:
            self._span.set_attribute(process.PROCESS_EXIT_CODE, code)

    def end(self) -> None:
        """End it. What is set later is lost."""
        self._span.end()


class Recorder:
    """Begins the spans that are the scopes of others.

    A `traceparent` that is empty or malformed begins a new trace.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def call(self, protocol: Protocol, method: str, traceparent: str) -> Span:
        """Begin the span of a call of `method`, such as `ingot.v1.MediaService/GetMedia`."""
        return _begin(
            self._tracer,
            method,
            SpanKind.SERVER,
            _context(traceparent),
            {rpc.RPC_SYSTEM_NAME: _SYSTEMS[protocol], rpc.RPC_METHOD: method},
        )

    def attempt(self, kind: str, traceparent: str, *, follows: str, began: int) -> Span:
        """Begin the span of an attempt of a job.

        It is a part of what made the job, and linked to the attempt `follows`; empty if this is the
        first. It `began` in nanoseconds since 1970.
        """
        return _begin(
            self._tracer,
            f"job {kind}",
            SpanKind.CONSUMER,
            _context(traceparent),
            {},
            links=_links(follows),
            began=began,
        )

    def delivery(self, url: str, traceparent: str) -> Span:
        """Begin the span of a request to the receiver of webhooks at `url`."""
        attributes: dict[str, Value] = {http.HTTP_REQUEST_METHOD: "POST", **_host(url)}
        parent = _context(traceparent)
        return _begin(self._tracer, "webhook", SpanKind.CLIENT, parent, attributes)


def _begin(
    tracer: Tracer,
    name: str,
    kind: SpanKind,
    parent: Context,
    attributes: Attributes,
    *,
    links: Sequence[Link] = (),
    began: int | None = None,
) -> Span:
    redacted = {key: _redacted(value) for key, value in attributes.items()}
    return Span(
        tracer,
        tracer.start_span(
            name, context=parent, kind=kind, attributes=redacted, links=links, start_time=began
        ),
    )


def _context(traceparent: str) -> Context:
    return _W3C.extract({"traceparent": traceparent}, context=Context())


def _links(traceparent: str) -> list[Link]:
    context = trace.get_current_span(_context(traceparent)).get_span_context()
    return [Link(context)] if context.is_valid else []


def _host(url: str) -> dict[str, Value]:
    parts = urlsplit(url)
    host: dict[str, Value] = {server.SERVER_ADDRESS: parts.hostname or ""}
    if parts.port is not None:
        host[server.SERVER_PORT] = parts.port
    return host


def _redacted(value: Value) -> Value:
    return redact(value) if isinstance(value, str) else value
