"""What a call is on every transport: the service's method behind it, its failures, its count."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ingot_server.api.caller import Caller, Service
from ingot_server.api.status import check, unexpected
from ingot_server.errors import Failure


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service, with what a transport needs to serve it."""

    descriptor: MethodDescriptor
    request_class: type[Message]
    response_class: type[Message]
    function: Callable[[Any, Caller], Any]

    def invoke(self, request: Message, peer: str) -> Any:
        """Begins the call: what the service's method returns, see Service.

        `peer` is the caller's address as Caller has it. Raises Failure for a request that breaks a
        rule of the contract.
        """
        check(request)
        return self.function(request, Caller(peer))

    def invoke_streaming(self, requests: AsyncIterable[Message], peer: str) -> Any:
        """Begins a call whose caller streams; each request is checked when it is taken."""
        return self.function(_checked(requests), Caller(peer))


async def _checked(requests: AsyncIterable[Message]) -> AsyncIterator[Message]:
    async for request in requests:
        check(request)
        yield request


def methods(service: Service) -> Iterator[Method]:
    """The methods of `service`, in the contract's order."""
    for descriptor in service.descriptor.methods:
        yield Method(
            descriptor,
            GetMessageClass(descriptor.input_type),
            GetMessageClass(descriptor.output_type),
            getattr(service, _snake_case(descriptor.name)),
        )


@contextlib.contextmanager
def translated(method: MethodDescriptor) -> Iterator[None]:
    """Has whatever goes wrong in a call of `method` leave as Failure."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        raise unexpected(method.full_name, error) from error


class Calls:
    """Knows whether calls are running: `idle` is set while none is."""

    def __init__(self) -> None:
        self._running = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Counts a call for as long as it runs."""
        self._running += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self.idle.set()


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
