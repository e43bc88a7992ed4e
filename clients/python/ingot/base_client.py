"""What all parts of the client share: its arguments, and the connection while it is open."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from os import PathLike
from types import TracebackType
from typing import Final, Self

import grpc

from ingot.access import TlsFiles, call_metadata, channel_credentials
from ingot.address import DEFAULT_ADDRESS, parse_address
from ingot.connection import Connection

PAGE_SIZE: Final = 200
"""How many items of a list one call asks for."""
RECONNECT_TIMEOUT: Final = timedelta(seconds=60)
"""How long a stream tries to reconnect, unless the client says otherwise."""


class BaseClient:
    """A client without methods of the API; `Client` describes the arguments."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str = "",
        ca_file: str | PathLike[str] = "",
        certificate_file: str | PathLike[str] = "",
        key_file: str | PathLike[str] = "",
        metadata: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        allow_plaintext_token: bool = False,
        timeout: timedelta = timedelta(seconds=30),
        reconnect_timeout: timedelta = RECONNECT_TIMEOUT,
    ) -> None:
        self._address = parse_address(address)
        files = TlsFiles(ca_file, certificate_file, key_file)
        self._credentials = channel_credentials(self._address, credentials, files)
        self._metadata = call_metadata(
            self._address,
            metadata or {},
            token,
            encrypted=self._credentials is not None,
            plaintext=allow_plaintext_token,
        )
        self._timeout = timeout
        self._reconnect_timeout = reconnect_timeout
        self._open: Connection | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.target!r})"

    async def connect(self) -> Self:
        """Make the client ready for calls, and return it.

        It connects to the server at the first call, so the server does not have to run yet. Raises
        RuntimeError if the client is connected already.
        """
        if self._open is not None:
            raise RuntimeError("This client is connected already. Create another one.")
        self._open = Connection(
            self._address,
            credentials=self._credentials,
            metadata=self._metadata,
            timeout_seconds=self._timeout.total_seconds(),
            reconnect_seconds=self._reconnect_timeout.total_seconds(),
        )
        return self

    async def close(self) -> None:
        """Close the connection; calls that still run fail. Closing again does nothing.

        The client can be connected again.
        """
        connection, self._open = self._open, None
        if connection is not None:
            await connection.close()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError(
                "The client is not connected. Use it within `async with Client(...) as client`, or"
                " call `await client.connect()` before and `await client.close()` at the end."
            )
        return self._open
