"""Who makes a call, and what a service may answer with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from google.protobuf.descriptor import ServiceDescriptor

Serialized: TypeAlias = bytes
"""A response that is serialized already; a service answers with it where that is held anyway."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The other end of one call."""

    peer: str
    """Its address with the port, as gRPC writes it: `ipv4:127.0.0.1:40000`, `unix:`."""

    @property
    def address(self) -> str:
        """Its address without the port: what limits are counted by."""
        kind, _, rest = self.peer.partition(":")
        return rest.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else kind


class Service:
    """A service of the contract, written once for every transport.

    For each method of `descriptor` a subclass has one of the same name in snake_case that takes the
    request, valid by the contract's rules and not to be changed, and the Caller. Where the caller
    streams it takes an iterator of such requests, and is cancelled when the caller is gone. A unary
    method is a coroutine that returns the response; one that streams returns an asynchronous
    generator, which the transport closes when the caller is gone. All fail by raising Failure.
    """

    descriptor: ClassVar[ServiceDescriptor]
