"""The caller of a call, and the interface of a service."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias
from urllib.parse import unquote

from google.protobuf.descriptor import ServiceDescriptor

from ingot.v1 import reason_pb2
from ingot.v1.scope_pb2 import Scope
from ingot_server.api.client_network import client_network
from ingot_server.api.hosts import host_of, is_loopback
from ingot_server.api.store_health import Stores
from ingot_server.caller_limits import NO_LIMITS, CallerLimits
from ingot_server.errors import Failure
from ingot_server.library.upload_ids import is_own_upload, stored_upload_id
from ingot_server.library.uploads import upload_not_found

Serialized: TypeAlias = bytes
"""A response that is already serialized. A service returns it if it has it in memory anyway."""


EVERY_SCOPE: Final = frozenset(Scope.values()) - {Scope.SCOPE_UNSPECIFIED}


@dataclass(frozen=True, slots=True)
class Caller:
    """The other end of one call."""

    peer: str
    """As gRPC writes it: `ipv4:127.0.0.1:40000`, `ipv6:%5B::1%5D:40000`, `unix:`."""
    name: str = ""
    """The name that its credential proved. Empty if the server does not ask who calls."""
    scopes: frozenset[Scope.ValueType] = EVERY_SCOPE
    """What it may do."""
    limits: CallerLimits = NO_LIMITS
    """What it may use."""
    tenant: str = ""
    """Whose media and jobs it sees. Empty if all callers share them."""

    @property
    def address(self) -> str:
        """Return the address without the port."""
        kind, _, rest = self.peer.partition(":")
        return rest.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else kind

    @property
    def is_local(self) -> bool:
        """Return whether it is a program of this machine."""
        return self.address in {"unix", ""} or is_loopback(host_of(unquote(self.address)))

    @property
    def key(self) -> str:
        """Return what limits per caller are counted by: the name, or what has it without one.

        That is the address, or the /64 of an IPv6 address.
        """
        if self.name or not self.peer.startswith("ipv6:"):
            return self.name or self.address
        return client_network(host_of(unquote(self.address)))

    def own_request_id(self, request_id: str) -> str:
        """Return a request id as it is stored: those of a caller with a name are its own.

        An address is not enough for that. A caller may repeat a call from another one.
        """
        return f"{self.name}/{request_id}" if self.name and request_id else request_id

    def own_upload_id(self, upload_id: str) -> str:
        """Return an upload id as it is stored: those of a caller with a name are its own.

        Empty stays empty. Raises Failure UPLOAD_NOT_FOUND for what cannot be the id of an upload.
        """
        return self.stored_upload_id(upload_id, self.name)

    def stored_upload_id(self, upload_id: str, owner: str) -> str:
        """Return an upload id of `owner` as it is stored.

        Raises Failure as `own_upload_id` does, and SCOPE_MISSING if the caller may not see what is
        another's.
        """
        if owner != self.name:
            self.require(Scope.SCOPE_ADMIN)
        if not upload_id:
            return ""
        if not is_own_upload(upload_id, ""):
            raise upload_not_found(upload_id)
        return stored_upload_id(upload_id, owner)

    @property
    def is_admin(self) -> bool:
        """Return whether it may see and change what is others'."""
        return Scope.SCOPE_ADMIN in self.scopes

    def may_see(self, owner: str) -> bool:
        """Return whether a media item or a job of `owner` exists for the caller."""
        return not self.tenant or owner == self.tenant or self.is_admin

    def may_change(self, owner: str) -> bool:
        """Return whether the caller may change, delete or retry what is `owner`'s.

        A server that does not ask who calls gives every scope, `admin` as well.
        """
        return owner == self.name or self.is_admin

    def require_ownership(self, owner: str, what: str) -> None:
        """Raise Failure NOT_OWNER if the caller may not change `what`, which is `owner`'s."""
        if not self.may_change(owner):
            raise Failure(
                reason_pb2.REASON_NOT_OWNER,
                f"{what} belongs to {owner or 'nobody'}, so {self.name or 'this caller'} cannot "
                "change it. Ask its owner, or use a credential with the scope `admin`.",
            )

    def require(self, scope: Scope.ValueType) -> None:
        """Raise Failure SCOPE_MISSING if the caller may not do what needs `scope`."""
        if scope not in self.scopes:
            name = Scope.Name(scope).removeprefix("SCOPE_").lower()
            raise Failure(
                reason_pb2.REASON_SCOPE_MISSING,
                f"This needs the scope `{name}`, which {self.name or 'the caller'} does not have. "
                "Use a credential that has it, or ask the operator for one.",
                metadata={"scope": name},
            )


CALLER: Final[ContextVar[Caller]] = ContextVar("CALLER", default=Caller(""))  # noqa: B039 - frozen
"""The caller whose call runs: the caller of the jobs that it creates."""


class Service:
    """A service of the contract, written once for every transport.

    A subclass has a method for each method of `descriptor`, with its name in snake_case. It takes
    the request, which is valid by the contract's rules and must not be changed, and the Caller. If
    the caller streams, it takes an iterator of such requests, and is cancelled when the caller
    hangs up. A unary method is a coroutine that returns the response. A streaming method returns an
    asynchronous generator, which the transport closes when the caller hangs up. Every method raises
    Failure if it fails.
    """

    descriptor: ClassVar[ServiceDescriptor]
    needs: ClassVar[Stores] = Stores.ALL
    """The stores without which most of its methods fail; its health follows from them."""
