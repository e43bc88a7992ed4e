"""The span of a call, in the trace of its caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ingot_server.errors import Failure, reason_name
from ingot_server.tracing import scopes
from ingot_server.tracing.scopes import Protocol, Scope

Sent: TypeAlias = Callable[[], Iterable[tuple[str, str | bytes]] | None]
"""Returns the metadata or the headers that a caller has sent, with names in lower case."""

# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT: Final = "traceparent"


def begin_trace(protocol: Protocol, method: str, sent: Sent) -> CallTrace | None:
    """Begin the span of a call, and make it the scope of this task; None while traces are off.

    `method` is such as `ingot.v1.MediaService/GetMedia`. What was `sent` is read only for a trace.
    """
    recorder = scopes.recorder()
    if recorder is None:
        return None
    # Of several, the last one was added by what is next to the wire.
    parents = [str(value) for name, value in sent() or () if name == _TRACEPARENT]
    span = recorder.call(protocol, method, parents[-1] if parents else "")
    return CallTrace(protocol, scopes.enter(span))


@dataclass(frozen=True, slots=True)
class CallTrace:
    """The span of a call that runs."""

    protocol: Protocol
    scope: Scope

    def end(self, code: str, error: BaseException | None) -> None:
        """End it with a code, `OK` or the name of a gRPC code, and the `error` behind that."""
        if isinstance(error, Failure):
            self.scope.span.set(reason=reason_name(error.reason))
        self.scope.span.end_call(self.protocol, code)
        self.scope.end()
