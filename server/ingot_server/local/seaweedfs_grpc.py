"""The gRPC ports of SeaweedFS: mutual TLS among its parts, and the one call that `up` makes.

These ports would obey every user of the machine: delete, read and forge whatever they are told to.
So each connection needs a certificate that only this user can read. It is made anew at each start.

    <data directory>/
        grpc-ca.pem, grpc.pem, grpc-key.pem     see grpc_certificate.py

`up` runs as long as Ingot does, so it loads neither what makes certificates nor a library of gRPC,
which together take 30 MiB: the first is a process of its own, and the call is written here. It is
HTTP/2 (RFC 9113) with the headers that gRPC wants
(https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
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
# Types of frames and their flags (RFC 9113, section 6).
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEAD_BYTES: Final = 9
_STREAM: Final = 1
# Fields of HPACK's static table (RFC 7541, appendix A): whole ones, and names whose value follows.
_POST, _HTTPS = b"\x83", b"\x87"
_AUTHORITY_NAME, _PATH_NAME, _CONTENT_TYPE_NAME = b"\x01", b"\x04", b"\x0f\x10"
_OTHER_NAME: Final = b"\x00"


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
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=_tls_context(directory))
        with contextlib.closing(writer):
            fields = (
                _POST + _HTTPS,
                _AUTHORITY_NAME + _text(f"{host}:{port}"),
                _PATH_NAME + _text(method),
                _CONTENT_TYPE_NAME + _text("application/grpc"),
                _OTHER_NAME + _text("te") + _text("trailers"),
            )
            writer.write(
                _PREFACE
                + _frame(_SETTINGS, 0, 0)
                + _frame(_HEADERS, _END_HEADERS, _STREAM, b"".join(fields))
                # No compression, and the length.
                + _frame(_DATA, _END_STREAM, _STREAM, struct.pack(">BI", 0, len(message)) + message)
            )
            await _until_answered(reader, writer)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection was closed") from error


async def _until_answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readexactly(_FRAME_HEAD_BYTES)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        content = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            writer.write(_frame(kind, _ACK, 0, content if kind == _PING else b""))
        ends = kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM)
        if kind == _GOAWAY or (stream == _STREAM and ends):
            return


def _tls_context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(directory / AUTHORITY_FILE)
    context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE)
    context.set_alpn_protocols(["h2"])
    return context


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + content


def _text(value: str) -> bytes:
    """Return a string of HPACK that is shorter than 127 bytes, without Huffman's code."""
    return bytes([len(value)]) + value.encode("ascii")
