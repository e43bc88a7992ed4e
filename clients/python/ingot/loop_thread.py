"""An event loop in a thread of its own, on which blocking code runs coroutines.

Any number of threads may use one LoopThread. A call that is interrupted, as by Ctrl-C, cancels its
coroutine and waits for the end of it before it raises.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Generator
from dataclasses import dataclass
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
        self._check(awaitable)
        tasks: list[asyncio.Task[T | _Raised]] = []
        # Bare locks: an interruption inside a Condition, as futures have it, can leave it broken.
        ended, interrupted = _locked(), _locked()

        def begin() -> None:
            tasks.append(self._loop.create_task(_settle(awaitable)))
            tasks[0].add_done_callback(lambda _: ended.release())

        def cancel() -> None:
            for task in tasks:
                task.cancel()
                task.add_done_callback(lambda _: interrupted.release())
            if not tasks:  # the interruption came before `begin` was scheduled
                interrupted.release()

        try:
            self._loop.call_soon_threadsafe(begin)
            ended.acquire()
        except BaseException:
            self._loop.call_soon_threadsafe(cancel)  # runs after `begin`
            interrupted.acquire()
            raise
        if tasks[0].cancelled():
            raise RuntimeError("The client was closed during this call.")
        outcome = tasks[0].result()
        if isinstance(outcome, _Raised):
            raise outcome.error
        return outcome

    def _check(self, awaitable: Awaitable[T]) -> None:
        """Raise RuntimeError if the thread cannot run `awaitable` for the caller."""
        if threading.current_thread() is self._thread:
            problem = "A callback of the client must not call the client."
        elif not self.stop.alive:
            problem = "The client is closed."
        else:
            return
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        raise RuntimeError(problem)

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Yield what `items` yields."""
        try:
            while (item := self.run(anext(items, _END))) is not _END:
                yield item  # type: ignore[misc] # not _END
        finally:
            if self.stop.alive:  # otherwise it was closed with the loop
                self.run(items.aclose())


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a coroutine raised; as a result, so that nothing of it can end the loop."""

    error: BaseException


async def _settle(awaitable: Awaitable[T]) -> T | _Raised:
    try:
        return await awaitable
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return _Raised(error)


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


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
