"""The client sends the trace that its caller is in."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ingot.trace_context import current_trace, trace_of

SPAN = SpanContext(trace_id=1, span_id=2, is_remote=False, trace_flags=TraceFlags(1))
TRACEPARENT = f"00-{1:032x}-{2:016x}-01"


def test_the_current_span_is_sent() -> None:
    assert current_trace() == ()
    token = attach(trace.set_span_in_context(NonRecordingSpan(SPAN)))
    try:
        assert current_trace() == (("traceparent", TRACEPARENT),)
    finally:
        detach(token)


@pytest.mark.parametrize(
    ("environment", "headers"),
    [
        ({"TRACEPARENT": TRACEPARENT}, [("traceparent", TRACEPARENT)]),
        ({"TRACEPARENT": "anything else"}, []),
        ({}, []),
    ],
)
def test_the_command_sends_the_span_of_its_environment(
    environment: dict[str, str], headers: list[tuple[str, str]]
) -> None:
    assert trace_of(environment) == headers
