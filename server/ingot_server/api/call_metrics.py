"""The count and the duration of each call, on every transport, and a log of slow ones."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from types import TracebackType

from google.protobuf.descriptor import MethodDescriptor
from google.rpc import code_pb2

from ingot_server.api.call_trace import CallTrace, Sent, begin_trace
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import CALL_SECONDS, CALLS
from ingot_server.tracing.scopes import Protocol

logger = EventLogger(__name__)


class MeasuredMethod:
    """Counts the calls of one method, and logs those that take longer than `slow_call`.

    Streams last as long as their callers like, so none is slow. Neither is any call if `slow_call`
    is 0.
    """

    __slots__ = ("_full_name", "_is_unary", "_name", "_slow_seconds")

    def __init__(self, method: MethodDescriptor, slow_call: timedelta) -> None:
        self._name = f"{method.containing_service.name}/{method.name}"
        self._full_name = f"{method.containing_service.full_name}/{method.name}"
        self._is_unary = not (method.client_streaming or method.server_streaming)
        self._slow_seconds = slow_call.total_seconds() or float("inf")

    def call(self, protocol: Protocol, sent: Sent) -> MeasuredCall:
        """Return what a call is a `with` block of, from its beginning on.

        The block has to raise what the call fails with: a Failure, or what becomes INTERNAL. Its
        caller has `sent` metadata or headers, see `begin_trace`.
        """
        return MeasuredCall(self, begin_trace(protocol, self._full_name, sent))

    def ended(self, error: BaseException | None, seconds: float) -> None:
        """Count a call that took so long; `error` is what it failed with."""
        code = _code_of(error)
        CALLS.add(self._name, code)
        if self._is_unary:
            CALL_SECONDS.observe(seconds, self._name)
            if seconds > self._slow_seconds:
                self._log(error, code, seconds)

    def _log(self, error: BaseException | None, code: str, seconds: float) -> None:
        reason = {"reason": error.reason} if isinstance(error, Failure) else {}
        logger.warning(
            Event.CALL_SLOW,
            "%s took %.3f s: %s",
            self._name,
            seconds,
            code,
            method=self._name,
            code=code,
            duration_seconds=round(seconds, 3),
            **reason,
        )


class MeasuredCall:
    """A call that runs."""

    __slots__ = ("_began", "_method", "_trace")

    def __init__(self, method: MeasuredMethod, trace: CallTrace | None) -> None:
        self._method = method
        self._trace = trace

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self._method.ended(error, time.perf_counter() - self._began)
        if self._trace is not None:
            self._trace.end(_code_of(error), error)


def _code_of(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    if isinstance(error, Failure):
        return str(code_pb2.Code.Name(error.treatment.code))
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    return "INTERNAL"
