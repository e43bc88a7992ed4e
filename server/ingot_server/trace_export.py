"""The export of traces by OTLP, as the variables `OTEL_*` of OpenTelemetry's specification say.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables. This module
imports OpenTelemetry only when traces are turned on: it takes 16 MiB and a quarter of a second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from ingot_server.config import Settings
from ingot_server.outage import Outage
from ingot_server.tracing import scopes

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

_EXPORT: Final = "export of traces"
# For what has not been sent when a process ends. Whoever stops it does not wait much longer.
_FLUSH_SECONDS: Final = 1.0


@contextmanager
def exporting_traces(settings: Settings, service: str) -> Iterator[None]:
    """Record and export traces while the context is open, if the settings turn them on.

    `service` is the name of this process in traces, unless OTEL_SERVICE_NAME is set. A collector
    that cannot be reached delays nothing: spans are lost, and the log says so.
    """
    if not settings.tracing:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    from ingot_server.tracing.recorder import Recorder

    outage = Outage("The collector of traces")
    lines, only_outages = logging.getLogger(trace_exporter.__name__), _OnlyOutages(outage)
    lines.addFilter(only_outages)
    provider = _provider(service, outage)
    scopes.record_with(Recorder(provider.get_tracer("ingot_server", version("ingot-server"))))
    try:
        yield
    finally:
        scopes.record_with(None)
        ending = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
        ending.start()
        ending.join(_FLUSH_SECONDS)
        lines.removeFilter(only_outages)


def _provider(service: str, outage: Outage) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

    resource = Resource.create({SERVICE_VERSION: version("ingot-server")})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))

    class Exporter(OTLPSpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            if result is SpanExportResult.SUCCESS:
                outage.succeeded(_EXPORT)
            return result

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Exporter()))
    return provider


class _OnlyOutages(logging.Filter):
    """Makes one outage of the lines that the exporter logs about each batch and each try."""

    def __init__(self, outage: Outage) -> None:
        super().__init__()
        self._outage = outage

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            self._outage.failed(_EXPORT, record.getMessage())
        return False
