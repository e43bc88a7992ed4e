"""How asyncio tasks are cancelled, shielded and gathered here."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

_CANCEL_AGAIN_SECONDS: Final = 0.5

_Result = TypeVar("_Result")


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with.

    A cancellation that arrives while a connection is being opened or released can be lost. The task
    then continues, so it is cancelled again.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_SECONDS)
        for task in ended:
            _ = task.cancelled() or task.exception()  # retrieved, or asyncio logs it


async def run_uncancelled(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, even if the caller is cancelled meanwhile; then raise that.

    This is for cleanup: a job that is cancelled together with its worker is cancelled twice.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    failed = None if task.cancelled() else task.exception()
    if cancelled is not None:
        raise cancelled
    if failed is not None:
        raise failed


async def gather_or_cancel(work: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Run coroutines at the same time and return their results in order.

    Raises what the first one to fail raises, after the others have ended. asyncio.gather would
    leave them running, and they would still be connecting while the caller closes the connections.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await cancel_and_wait(*(task for task in tasks if not task.done()))
