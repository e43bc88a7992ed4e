"""An event loop in a thread of its own, on which blocking code runs coroutines.

Any number of threads may use one LoopThread. A call that is interrupted, as by Ctrl-C, cancels its
coroutine and waits for the end of it before it raises.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Generator
from concurrent.futures import Future, wait
from typing import Final, TypeVar

T = TypeVar("T")

_END: Final = object()


class LoopThread:
    """The thread and its event loop, until `stop`; a program's end stops it too."""

    def __init__(self) -> None:
        loop = asyncio.new_event_loop()
        # A daemon, because a program waits for other threads before it runs the finalizer.
        thread = threading.Thread(target=_run, args=(loop,), name="ingot-client", daemon=True)
        thread.start()
        self._loop = loop
        self._thread = thread
        self.stop = weakref.finalize(self, _stop, loop, thread)

    def run(self, awaitable: Awaitable[T]) -> T:
        """Return what `awaitable` returns, or raise what it raises.

        Raises RuntimeError if the thread was stopped, also during the call, and if the caller is
        the thread itself, which would wait forever.
        """
        problem = ""
        if threading.current_thread() is self._thread:
            problem = "A callback of the client must not call the client."
        elif not self.stop.alive:
            problem = "The client is closed."
        if problem:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise RuntimeError(problem)

        outcome: Future[T] = Future()
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(_settle(awaitable, outcome)))
            tasks[0].add_done_callback(end)

        def end(_: asyncio.Task[None]) -> None:
            if not outcome.done():
                outcome.set_exception(RuntimeError("The client was closed during this call."))

        self._loop.call_soon_threadsafe(begin)
        try:
            return outcome.result()
        finally:
            if not outcome.done():
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                wait([outcome])

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Yield what `items` yields."""
        try:
            while (item := self.run(anext(items, _END))) is not _END:
                yield item  # type: ignore[misc] # not _END
        finally:
            if self.stop.alive:  # otherwise it was closed with the loop
                self.run(items.aclose())


async def _settle(awaitable: Awaitable[T], outcome: Future[T]) -> None:
    try:
        result = await awaitable
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join()
