"""A collector that is away, and one that is there."""

from __future__ import annotations

import pytest

from ingot_server.config import Settings
from ingot_server.log_events import Event
from ingot_server.trace_export import exporting_traces
from ingot_server.tracing import scopes
from ingot_server.tracing.scopes import Protocol
from tests.otlp_collector import collecting
from tests.waiting import until

SETTINGS = Settings(tracing=True)


def make_span() -> str:
    """Record a span, and return the id of its trace."""
    recorder = scopes.recorder()
    assert recorder is not None
    span = recorder.call(Protocol.GRPC, "method", "")
    span.end()
    return span.trace_id


async def test_what_is_left_is_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        with exporting_traces(SETTINGS, "ingot-worker"):
            trace_id = make_span()
            assert collector.trace(trace_id) == []
        collector.wait(lambda: collector.trace(trace_id))
        [span] = collector.trace(trace_id)
    assert span.service == "ingot-worker"
    assert scopes.recorder() is None


async def test_a_collector_that_is_away_is_one_line(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.01")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with exporting_traces(SETTINGS, "ingot-serve"):
        make_span()
        await until(lambda: caplog.records)
    events = [getattr(record, "event", record.name) for record in caplog.records]
    assert events == [Event.SERVER_LOST]


async def test_nothing_is_exported_unless_a_setting_says_so() -> None:
    with exporting_traces(Settings(), "ingot-serve"):
        assert scopes.recorder() is None
