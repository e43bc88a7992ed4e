"""Threads and connections for one kind of calls to an S3 server.

Each kind has its own, so that calls which hang take nothing from those of another kind.
"""

from __future__ import annotations

import asyncio
import contextvars
import ssl
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import urllib3
from minio import Minio

from ingot_server.library.interruptible import Call, InterruptiblePools

T = TypeVar("T")

# How much of a file is read, and sent, at a time.
_BLOCK_BYTES: Final = 256 << 10


class Guard(Protocol):
    """Returns the result of `work`, with foreign exceptions translated."""

    def __call__(self, work: Callable[[], T]) -> T: ...


class CallPool:
    """At most `threads` calls at the same time; the others wait for a thread.

    `read_seconds` is how long the server may send nothing. A request that fails in this way is
    repeated `repetitions` times, and one that is answered with 5xx three times. `tls` is for HTTPS;
    None trusts what the system trusts.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[urllib3.PoolManager], Minio],
        guard: Guard,
        *,
        threads: int,
        connections: int,
        connect_seconds: float,
        read_seconds: float,
        repetitions: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.connections: urllib3.PoolManager = InterruptiblePools(
            ssl_context=tls,
            maxsize=connections,
            blocksize=_BLOCK_BYTES,
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            retries=urllib3.Retry(
                3,
                connect=2,
                read=repetitions,
                backoff_factor=0.2,
                status_forcelist=[500, 502, 503, 504],
                raise_on_status=False,
                respect_retry_after_header=False,
            ),
        )
        self.client = connect(self.connections)
        self._guard = guard
        self._threads = ThreadPoolExecutor(threads, name)
        self._running: set[Call] = set()

    async def run(
        self, work: Callable[[], T], *, discard: Callable[[T], object] | None = None
    ) -> T:
        """Return the result of `work`, in a thread. Raises Failure STORAGE_UNAVAILABLE.

        If the caller is cancelled, the request ends at once, and the thread is free for others;
        whether the server carries it out is unknown then. `discard` gets a result that came too
        late for its caller.
        """
        call = Call()
        running = self.submit(work, call)
        ended = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            ended.add_done_callback(lambda late: _discard(late, discard))
            if not running.cancel():
                call.interrupt()
            raise

    def submit(self, work: Callable[[], T], call: Call | None = None) -> Future[T]:
        """Begin `work` in a thread, as `call`; from any thread."""
        call = call or Call()
        # What the caller is a part of, its requests are, too.
        context = contextvars.copy_context()
        running = self._threads.submit(context.run, call.run, lambda: self._guard(work))
        self._running.add(call)
        running.add_done_callback(lambda _: self._running.discard(call))
        return running

    def interrupt(self) -> None:
        """End the requests of all calls."""
        for call in list(self._running):
            call.interrupt()

    def shut_down(self) -> None:
        """Wait until the calls that run have ended; the others never begin."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _discard(late: asyncio.Future[T], discard: Callable[[T], object] | None) -> None:
    if late.cancelled() or late.exception() is not None or discard is None:
        return
    discard(late.result())
