"""The trace that calls are a part of, https://www.w3.org/TR/trace-context.

A program that uses OpenTelemetry has a current span, and its calls are sent with that. The client
does not depend on OpenTelemetry and does not import it by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Final

TRACEPARENT: Final = "traceparent"
_TRACEPARENT_VALUE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def current_trace() -> tuple[tuple[str, str], ...]:
    """Return the metadata that names the caller's current span; empty if it has none."""
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())


def trace_of(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the header for the span in the variable TRACEPARENT, which build systems set.

    https://opentelemetry.io/docs/specs/otel/context/env-carriers. Empty if it is not valid.
    """
    value = environment.get("TRACEPARENT", "")
    return [(TRACEPARENT, value)] if _TRACEPARENT_VALUE.fullmatch(value) else []
