"""Spans that are recorded in this process, and kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from ingot_server.tracing import scopes
from ingot_server.tracing.recorder import Recorder


@contextlib.contextmanager
def recording(sampler: Sampler = DEFAULT_ON) -> Iterator[InMemorySpanExporter]:
    """Turn traces on; what has ended is in what this yields."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    scopes.record_with(Recorder(provider.get_tracer("tests")))
    try:
        yield kept
    finally:
        scopes.record_with(None)
        provider.shutdown()
