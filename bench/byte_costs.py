"""What the steps of an ingest cost in plain Python, in processor seconds of one thread.

Together they are the least that an ingest in Python with a guard, without copies of Ingot's own,
can take on this machine.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import av
import urllib3
from minio import Minio

BUFFER_BYTES = 256 << 10


def byte_costs(address: str, path: Path, folder: Path, sdk: Minio) -> Mapping[str, float]:
    """The steps for the file at `path`, which `address` serves; `folder` is for a copy of it."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    steps: dict[str, Callable[[], None]] = {
        "guard: receive and send": lambda: _relay(address, buffer),
        "client: receive": lambda: _receive(address, buffer),
        "write to scratch": lambda: _copy(path, folder / "copy", buffer),
        "SHA-256": lambda: _hash(path, buffer),
        "CRC32, from the page cache": lambda: _crc32(path, buffer),
        "send to S3": lambda: _put(path, sdk),
        "read all packets": lambda: _demux(path),
    }
    return {name: _processor_seconds(step) for name, step in steps.items()}


def _processor_seconds(step: Callable[[], None]) -> float:
    before = time.thread_time()
    step()
    return time.thread_time() - before


def _receive(address: str, buffer: memoryview) -> None:
    with _response(address) as origin:
        while origin.recv_into(buffer):
            pass


def _relay(address: str, buffer: memoryview) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def drain() -> None:
        unused = bytearray(BUFFER_BYTES)
        with socket.create_connection(listener.getsockname()) as client:
            while client.recv_into(unused):
                pass

    thread = threading.Thread(target=drain)
    thread.start()
    with listener, listener.accept()[0] as sink, _response(address) as origin:
        while size := origin.recv_into(buffer):
            sink.sendall(buffer[:size])
    thread.join()


@contextmanager
def _response(address: str) -> Iterator[socket.socket]:
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as origin:
        origin.sendall(f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        yield origin


def _copy(path: Path, copy: Path, buffer: memoryview) -> None:
    """Write as many bytes: what is written has been in the processor's cache before."""
    try:
        with copy.open("wb", buffering=0) as file:
            for _ in range(path.stat().st_size // len(buffer)):
                file.write(buffer)
    finally:
        copy.unlink()


def _hash(path: Path, buffer: memoryview) -> None:
    sha256 = hashlib.sha256()
    for _ in range(path.stat().st_size // len(buffer)):
        sha256.update(buffer)


def _crc32(path: Path, buffer: memoryview) -> None:
    value = 0
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            value = zlib.crc32(buffer[:size], value)


def _put(path: Path, sdk: Minio) -> None:
    url = sdk.get_presigned_url("PUT", "ingot", "cost")
    headers = {"Content-Length": str(path.stat().st_size)}
    with path.open("rb") as file, urllib3.PoolManager(blocksize=BUFFER_BYTES) as http:
        response = http.request("PUT", url, body=file, headers=headers)
    if response.status != 200:
        raise RuntimeError(f"S3 returned {response.status}")


def _demux(path: Path) -> None:
    with av.open(os.fspath(path)) as container:
        for _ in container.demux():
            pass
