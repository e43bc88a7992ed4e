"""Dialling: from a name to addresses, from addresses to a socket; each address is checked first."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import Final

from ingot_server.allowed_destinations import AllowedDestinations
from ingot_server.egress.addresses import Address, literal_address
from ingot_server.egress.destinations import Destinations, Resolve
from ingot_server.egress.refusal import Refusal

# RFC 8305, 5: how long one address is tried alone before the next is tried as well.
_STAGGER: Final = 0.25
_MOST_ADDRESSES: Final = 8
_RESOLVER_THREADS: Final = 8


class Resolver:
    """The system's resolver, in threads of its own.

    It does not use the loop's default executor: an upload that waits there for bytes of a download
    would wait for ever if that download waited for a thread to look up its host.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="egress-resolve")

    async def __call__(self, host: str) -> list[Address]:
        """Return the addresses of `host`, the preferred first (RFC 6724).

        Raises OSError and UnicodeError.
        """
        look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [ip_address(address[0]) for *_, address in found]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


async def permitted_addresses(
    host: str, port: int, resolve: Resolve, destinations: Destinations, *, deadline: float
) -> list[Address]:
    """Return the addresses of `host` that may be dialled, at least one. Raises Refusal.

    The caller dials these addresses and not the name, which could lead elsewhere the next time.
    """
    found = await resolve_host(host, resolve, deadline=deadline)
    try:
        async with asyncio.timeout_at(deadline):
            reasons = {
                item: await destinations.why_forbidden(item, port, resolve) for item in found
            }
    except (OSError, UnicodeError) as error:
        raise Refusal("dns_error", "Redis or the broker has no address.") from error
    permitted = [item for item in found if not reasons[item]]
    if not permitted:
        raise Refusal(
            "destination_ip_prohibited",
            f"{host} does not lead to an address that may be dialled.",
            note="; ".join(f"{item} is {why}" for item, why in reasons.items()),
        )
    return permitted


async def allowed_addresses(
    host: str,
    port: int,
    resolve: Resolve,
    destinations: Destinations,
    allowed: AllowedDestinations,
    *,
    deadline: float,
) -> list[Address]:
    """Return the addresses of `host` if all are in the networks that are allowed; else none.

    Raises Refusal if one of them is closed, or belongs to Ingot itself.
    """
    if not allowed.networks:
        return []
    try:
        found = await resolve_host(host, resolve, deadline=deadline)
    except Refusal:
        return []  # An upstream proxy may know the name.
    if not allowed.contains_all(found):
        return []
    try:
        async with asyncio.timeout_at(deadline):
            reasons = [await destinations.why_withheld(item, port, resolve) for item in found]
    except (OSError, UnicodeError) as error:
        raise Refusal("dns_error", "Redis or the broker has no address.") from error
    if any(reasons):
        raise Refusal(
            "destination_ip_prohibited",
            f"{host} leads to what no setting opens by its network.",
            note="; ".join(filter(None, reasons)),
        )
    return found


async def resolve_host(host: str, resolve: Resolve, *, deadline: float) -> list[Address]:
    """Return all addresses of `host`, at least one, each once. Raises Refusal."""
    literal = literal_address(host)
    if literal is not None:
        return [literal]
    try:
        async with asyncio.timeout_at(deadline):
            found = list(dict.fromkeys(await resolve(host)))
    except TimeoutError as error:
        raise Refusal("dns_timeout", f"Looking up {host} took too long.") from error
    except (OSError, UnicodeError) as error:
        raise Refusal("dns_error", f"{host} has no address.") from error
    if not found:
        raise Refusal("dns_error", f"{host} has no address.")
    return found


async def connect(addresses: Sequence[Address], port: int, *, deadline: float) -> socket.socket:
    """Return a connection to the first address that accepts one.

    The addresses are tried in order, the next one a quarter of a second after the one before it.

    The caller owns the socket. Raises Refusal.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await _race(addresses[:_MOST_ADDRESSES], port)
    except TimeoutError as error:
        raise Refusal("connection_timeout", "The host did not respond in time.") from error
    except ConnectionRefusedError as error:
        raise Refusal("connection_refused", "The host refused the connection.") from error
    except OSError as error:
        routed = error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
        refusal = "destination_unavailable" if routed else "destination_ip_unroutable"
        raise Refusal(refusal, "The host cannot be reached.") from error


async def _race(addresses: Sequence[Address], port: int) -> socket.socket:
    untried = deque(addresses)
    trying: set[asyncio.Task[socket.socket]] = set()
    first_error: BaseException | None = None
    winner: socket.socket | None = None
    try:
        while untried or trying:
            if untried:
                trying.add(asyncio.create_task(_try(untried.popleft(), port)))
            done, trying = await asyncio.wait(
                trying,
                timeout=_STAGGER if untried else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            # At most one is used; others that connected at the same moment are closed below.
            for task in done:
                error = task.exception()
                if error is not None:
                    first_error = first_error or error
                elif winner is None:
                    winner = task.result()
                else:
                    trying.add(task)
            if winner is not None:
                return winner
        raise first_error or OSError("no address to try")
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close)


def _close(trial: asyncio.Task[socket.socket]) -> None:
    if not trial.cancelled() and trial.exception() is None:
        trial.result().close()


async def _try(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except BaseException:
        connection.close()
        raise
    return connection
