"""The gRPC ports of SeaweedFS: mutual TLS among its parts, and the one call that `up` makes.

These ports would obey every user of the machine: delete, read and forge whatever they are told to.
So each connection needs a certificate that only this user can read. It is made anew at each start.

    <data directory>/
        grpc-ca.pem, grpc.pem, grpc-key.pem     see grpc_certificate.py

`up` runs as long as Ingot does, so it loads neither what makes certificates nor grpcio, which
together take 30 MiB: the first is a process of its own, and the call is HTTP/2 with the headers
that gRPC wants (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from ingot_server.process.launch import launch_command

AUTHORITY_FILE: Final = "grpc-ca.pem"
CERTIFICATE_FILE: Final = "grpc.pem"
KEY_FILE: Final = "grpc-key.pem"

# The parts that listen, those that only connect, and what the documentation of SeaweedFS lists as
# parts of it. One without a section would accept everyone.
_PARTS: Final = (
    *("master", "volume", "filer", "s3", "admin", "worker", "client"),
    *("mq", "msg_broker", "msg_agent"),
)
_READ_BYTES: Final = 64 << 10


def security_sections() -> str:
    """Return the part of security.toml that makes all parts use the certificate.

    SeaweedFS has to be started in the data directory.
    """
    keys = f'cert = "{CERTIFICATE_FILE}"\nkey = "{KEY_FILE}"\n'
    return f'[grpc]\nca = "{AUTHORITY_FILE}"\n' + "".join(
        f"[grpc.{part}]\n{keys}" for part in _PARTS
    )


def make_certificate(directory: Path, host: str) -> None:
    """Make the certificate for the address `host` in another process; this takes 0.2 s."""
    program = (sys.executable, "-m", "ingot_server.local.grpc_certificate")
    subprocess.run(launch_command(*program, str(directory), host), check=True)  # noqa: S603


async def call(directory: Path, host: str, port: int, method: str, message: bytes) -> None:
    """Call `method`, `/package.Service/Method`, with a serialized message, and wait for its end.

    What it answers is not read. Raises OSError if there is no connection, or if it breaks.
    """
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    headers = (
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", f"{host}:{port}"),
        (":path", method),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    connection.send_headers(stream, headers)
    # Not compressed, and the length.
    framed = struct.pack(">BI", 0, len(message)) + message
    connection.send_data(stream, framed, end_stream=True)
    reader, writer = await asyncio.open_connection(host, port, ssl=_tls_context(directory))
    with contextlib.closing(writer):
        try:
            await _until_answered(connection, reader, writer)
        except ProtocolError as error:
            raise ConnectionAbortedError(str(error)) from error


async def _until_answered(
    connection: H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        writer.write(connection.data_to_send())
        received = await reader.read(_READ_BYTES)
        if not received:
            raise ConnectionResetError("the connection was closed")
        for event in connection.receive_data(received):
            if isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                return


def _tls_context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(directory / AUTHORITY_FILE)
    context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE)
    context.set_alpn_protocols(["h2"])
    return context
