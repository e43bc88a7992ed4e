"""What the current work is a part of: a call, an attempt of a job, or a delivery of a webhook.

Such a scope is entered once in a task, and holds for the tasks and threads that are started within.
It ends when it is told to, whatever goes on longer: a task that outlives the call that has started
it makes no more spans of that call. So background tasks, which are in no scope, make none.

A stage of a job is a span of its own. It changes for all tasks of the attempt at once, so what they
do belongs to the stage that the job is in.
"""

from __future__ import annotations

from contextvars import ContextVar
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingot_server.tracing.recorder import Recorder, Span


class Protocol(Enum):
    """What a caller speaks."""

    GRPC = auto()
    CONNECT = auto()
    """Also gRPC-Web and plain JSON, which are served by the same code."""


class Scope:
    """A span that others are parts of, while it lasts."""

    __slots__ = ("_stage", "has_ended", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self._stage: Span | None = None
        self.has_ended = False

    @property
    def innermost(self) -> Span | None:
        """What a new span is a part of; None if the scope has ended, or is not sampled."""
        if self.has_ended or not self.span.is_recorded:
            return None
        return self._stage or self.span

    @property
    def current(self) -> Span | None:
        """The span that stands for the current work, also if it is not sampled."""
        return None if self.has_ended else self._stage or self.span

    def enter_stage(self, name: str) -> None:
        """End the current stage, and begin the next one."""
        self.leave_stage()
        if self.innermost is not None:
            self._stage = self.span.part(name)

    def leave_stage(self) -> None:
        """End the current stage, if there is one."""
        if self._stage is not None:
            self._stage.end()
            self._stage = None

    def end(self) -> None:
        """End the span, and that of its stage. Safe to repeat."""
        if not self.has_ended:
            self.leave_stage()
            self.has_ended = True
            self.span.end()


class _Tracing:
    """What records the spans of this process; None while traces are off."""

    recorder: Recorder | None = None


_tracing = _Tracing()
_SCOPE: ContextVar[Scope | None] = ContextVar("trace_scope", default=None)


def record_with(recorder: Recorder | None) -> None:
    """Turn traces on in this process, or off."""
    _tracing.recorder = recorder


def recorder() -> Recorder | None:
    """Return what records spans; None while traces are off."""
    return _tracing.recorder


def enter(span: Span) -> Scope:
    """Make a span what the current task, and what it starts from now on, is a part of."""
    scope = Scope(span)
    _SCOPE.set(scope)
    return scope


def scope() -> Scope | None:
    """Return the scope of the current work; None while there is none, or traces are off."""
    return _SCOPE.get()


def parent() -> Span | None:
    """Return the span that a new one is to be a part of; None if none should be made."""
    found = _SCOPE.get()
    return found.innermost if found is not None else None


def current() -> Span | None:
    """Return the span that stands for the current work; None while there is none."""
    found = _SCOPE.get()
    return found.current if found is not None else None


def traceparent() -> str:
    """Return the current span as a W3C `traceparent`; empty while there is none."""
    span = current()
    return span.traceparent if span is not None else ""


def trace_fields() -> dict[str, str]:
    """Return the fields that a line of the log has for the trace of the current work."""
    span = current()
    return {"trace_id": span.trace_id} if span is not None else {}


def link(other: str) -> None:
    """Link the span of the current scope to the span of a `traceparent` in another trace."""
    span = _lasting()
    if other and span is not None and not span.shares_trace(other):
        span.link(other)


def note(**attributes: str) -> None:
    """Set attributes `ingot.<name>` of the span of the current scope."""
    span = _lasting()
    if span is not None:
        span.set(**attributes)


def fail(error_type: str, message: str) -> None:
    """Note what the work of the current scope has failed with."""
    span = _lasting()
    if span is not None:
        span.fail(error_type, message)


def _lasting() -> Span | None:
    """Return the span of the current scope, unless that has ended."""
    found = _SCOPE.get()
    return found.span if found is not None and not found.has_ended else None
