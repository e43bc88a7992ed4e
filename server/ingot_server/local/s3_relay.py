"""INGOT_S3_ADDRESS: where other machines reach the embedded S3, which signed links lead to.

All parts of SeaweedFS listen on one address, and only S3 is for others. So they stay on loopback,
and what connects here is passed on to the port of S3 alone, which answers nothing without a
signature. If the server has a certificate, it is used here, too: a page that came over HTTPS plays
nothing that comes over HTTP.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from ingot_server.api.connection_bounds import ConnectionBounds
from ingot_server.api.hosts import host_of, is_every_address
from ingot_server.api.http_listener import listen
from ingot_server.api.server_certificate import server_certificate
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.egress.stream import Stream
from ingot_server.setting_values import SettingError

_BUFFER_BYTES: Final = 256 << 10


def public_endpoint(settings: Settings) -> str:
    """Return what signed links begin with, SCHEME://HOST:PORT, for a server with `s3_address`.

    Raises SettingError if the settings name no host for links.
    """
    scheme = "https" if settings.tls_certificate_file else "http"
    given = settings.s3_public_endpoint
    if given:
        return given if "://" in given else f"{scheme}://{given}"
    if is_every_address(host_of(settings.s3_address)):
        port = settings.s3_address.rpartition(":")[2]
        raise SettingError(
            f"INGOT_S3_ADDRESS={settings.s3_address} means all addresses of this machine. Say "
            "which one links shall name, for example "
            f"INGOT_S3_PUBLIC_ENDPOINT=media.example.com:{port}."
        )
    return f"{scheme}://{settings.s3_address}"


class S3Relay:
    """The listener at `s3_address`. It belongs to the running event loop."""

    def __init__(self, settings: Settings) -> None:
        """Prepare it. Raises SettingError if the certificate cannot be used."""
        self._settings = settings
        self._certificate = server_certificate(settings)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, and pass connections on to `s3_endpoint`. Raises SettingError."""
        listener = await listen(
            self._settings.s3_address, ConnectionBounds.of(self._settings), reuse_port=False
        )
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            sock=listener,
            ssl=None if self._certificate is None else self._certificate.http_context(),
        )

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.close()
        await cancel_and_wait(*self._connections)

    def _accept(self) -> Stream:
        client = Stream(_BUFFER_BYTES)
        client.on_connected = partial(self._begin, client)
        return client

    def _begin(self, client: Stream) -> None:
        connection = asyncio.create_task(self._relay(client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _relay(self, client: Stream) -> None:
        host, _, port = self._settings.s3_endpoint.rpartition(":")
        ended = asyncio.Event()
        client.on_end = ended.set
        try:
            _, s3 = await asyncio.get_running_loop().create_connection(
                partial(Stream, _BUFFER_BYTES), host, int(port)
            )
        except OSError:  # it is being restarted
            client.abort()
            return
        s3.on_end = ended.set
        try:
            client.relay_to(s3)
            s3.relay_to(client)
            if not client.ended:
                await ended.wait()
            # What S3 has sent still has to arrive.
            s3.close()
            client.close()
            await client.lost
        finally:
            s3.abort()
            client.abort()
