"""Calls on every transport: the method of the service, its failures, a count and a bound."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from ingot.v1 import reason_pb2
from ingot.v1.scope_pb2 import Scope, required_scope
from ingot_server.api.call_metrics import MeasuredMethod
from ingot_server.api.caller import CALLER, Caller, Serialized, Service
from ingot_server.api.status import check, unexpected
from ingot_server.errors import Failure
from ingot_server.library.tenants import TENANT

# Callers repeat the same requests, and validating one takes longer than serving it from memory. The
# cache takes about 8 MiB a method at most.
_CACHED_REQUESTS: Final = 4096
_CACHED_REQUEST_BYTES: Final = 512
# When a call that was refused may be repeated.
_BUSY_SECONDS: Final = (1.0, 3.0)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service, with everything that a transport needs to serve it."""

    descriptor: MethodDescriptor
    request_class: type[Message]
    response_class: type[Message]
    read: Callable[[Serialized], Message]
    """Parses and validates a serialized request. Do not change the result: calls may share it.

    Raises Failure INVALID_REQUEST for anything else, or if a rule of the contract is broken.
    """
    function: Callable[[Any, Caller], Any]
    scope: Scope.ValueType
    """What its callers must be allowed to do."""
    measured: MeasuredMethod
    """Counts its calls."""

    @property
    def is_watch(self) -> bool:
        """Whether its calls last for as long as their callers like."""
        return self.descriptor.server_streaming and self.descriptor.name.startswith("Watch")

    def invoke_serialized(self, request: Serialized, caller: Caller) -> Any:
        """Begin the call as `invoke` does. Raises Failure as `read` does."""
        return self.function(self.read(request), _current(caller))

    def invoke(self, request: Message, caller: Caller) -> Any:
        """Begin the call, and return what the service's method returns, see Service.

        Raises Failure INVALID_REQUEST if the request breaks a rule of the contract.
        """
        check(request)
        return self.function(request, _current(caller))

    def invoke_streaming(self, requests: AsyncIterable[Message], caller: Caller) -> Any:
        """Begin a call whose caller streams. Each request is validated when it is read."""
        return self.function(_checked(requests), _current(caller))

    def invoke_streaming_serialized(
        self, requests: AsyncIterable[Serialized], caller: Caller
    ) -> Any:
        """Begin the call as `invoke_streaming` does, from serialized requests."""
        return self.function(_read(requests, self.read), _current(caller))


def _current(caller: Caller) -> Caller:
    """Return the caller, and make it that of the task which makes the call."""
    CALLER.set(caller)
    TENANT.set(caller.tenant)
    return caller


async def _checked(requests: AsyncIterable[Message]) -> AsyncIterator[Message]:
    async for request in requests:
        check(request)
        yield request


async def _read(
    requests: AsyncIterable[Serialized], read: Callable[[Serialized], Message]
) -> AsyncIterator[Message]:
    async for request in requests:
        yield read(request)


def methods(service: Service, slow_call: timedelta) -> Iterator[Method]:
    """Return the methods of `service`, in the contract's order.

    Those that take longer than `slow_call` are logged, unless that is 0.
    """
    for descriptor in service.descriptor.methods:
        request_class = GetMessageClass(descriptor.input_type)
        yield Method(
            descriptor,
            request_class,
            GetMessageClass(descriptor.output_type),
            _reader(descriptor, request_class),
            getattr(service, _snake_case(descriptor.name)),
            descriptor.GetOptions().Extensions[required_scope],
            MeasuredMethod(descriptor, slow_call),
        )


def _reader(
    method: MethodDescriptor, request_class: type[Message]
) -> Callable[[Serialized], Message]:
    def read(data: Serialized) -> Message:
        try:
            request = request_class.FromString(data)
        except DecodeError as error:
            raise malformed(request_class, error) from error
        check(request)
        return request

    if method.client_streaming:
        return read
    cached = lru_cache(_CACHED_REQUESTS)(read)
    return lambda data: cached(data) if len(data) <= _CACHED_REQUEST_BYTES else read(data)


def malformed(request_class: type[Message], error: Exception) -> Failure:
    """Return the failure of a call whose request could not be parsed."""
    name = request_class.DESCRIPTOR.full_name
    return Failure(reason_pb2.REASON_INVALID_REQUEST, f"The request is not a {name}: {error}")


def failure_of(method: MethodDescriptor, error: Exception) -> Failure:
    """Return the failure that a caller receives for an exception in a call of `method`."""
    return error if isinstance(error, Failure) else unexpected(method.full_name, error)


class Calls:
    """A count of calls, each of which is a `with` block. `idle` is set while none is running."""

    def __init__(self) -> None:
        self._running = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __enter__(self) -> None:
        self._running += 1
        self.idle.clear()

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        if not self._running:
            self.idle.set()


class CallBound:
    """A bound on the calls that run at the same time, each of which is a `with` block.

    Entering it raises Failure TOO_MANY_CALLS while there are as many as `limit`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0

    def of(self, method: Method) -> AbstractContextManager[None]:
        """Return what a call of the method is a `with` block of.

        Watches have no bound here. They last for hours and are idle most of the time, so they must
        not shut out other calls; and each caller has a bound on its watches.
        """
        return nullcontext() if method.is_watch else self

    def __enter__(self) -> None:
        if self._running >= self._limit:
            raise Failure(
                reason_pb2.REASON_TOO_MANY_CALLS,
                f"The server answers {self._limit} calls, as many as INGOT_MAX_CALLS allows at the "
                "same time. Call again later.",
                # Those that were refused together should not come back together.
                retry_after=timedelta(seconds=random.uniform(*_BUSY_SECONDS)),  # noqa: S311
            )
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
