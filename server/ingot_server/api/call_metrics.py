"""The count and the duration of each call, on every transport."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from google.protobuf.descriptor import MethodDescriptor
from google.rpc import code_pb2

from ingot_server.errors import Failure
from ingot_server.metrics.definitions import CALL_SECONDS, CALLS


class MeasuredMethod:
    """Counts the calls of one method."""

    __slots__ = ("_is_unary", "_name")

    def __init__(self, method: MethodDescriptor) -> None:
        self._name = f"{method.containing_service.name}/{method.name}"
        self._is_unary = not (method.client_streaming or method.server_streaming)

    def call(self) -> MeasuredCall:
        """Return what a call is a `with` block of, from its beginning on.

        The block has to raise what the call fails with: a Failure, or what becomes INTERNAL.
        """
        return MeasuredCall(self)

    def ended(self, error: BaseException | None, seconds: float) -> None:
        """Count a call that took so long; `error` is what it failed with."""
        CALLS.add(self._name, "OK" if error is None else _code_of(error))
        if self._is_unary:
            CALL_SECONDS.observe(seconds, self._name)


class MeasuredCall:
    """A call that runs."""

    __slots__ = ("_began", "_method")

    def __init__(self, method: MeasuredMethod) -> None:
        self._method = method

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self._method.ended(error, time.perf_counter() - self._began)


def _code_of(error: BaseException) -> str:
    if isinstance(error, Failure):
        return str(code_pb2.Code.Name(error.treatment.code))
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    return "INTERNAL"
