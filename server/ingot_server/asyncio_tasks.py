"""Cancelling, shielding and gathering asyncio tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

CANCEL_AGAIN_SECONDS: Final = 0.5

_Result = TypeVar("_Result")


async def cancel_and_wait(
    *tasks: asyncio.Task[Any], again_after_seconds: float = CANCEL_AGAIN_SECONDS
) -> None:
    """Cancel tasks and wait until they have ended, whatever they end with.

    Before Python 3.12, a cancellation that arrives while a connection is being opened or released
    can be lost. The task then continues, so it is cancelled again.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=again_after_seconds)
        for task in ended:
            _ = task.cancelled() or task.exception()  # retrieved, or asyncio logs it


async def run_uncancelled(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, even if the caller is cancelled; then raise the cancellation.

    This is for cleanup: a job that is cancelled together with its worker is cancelled twice.
    """
    task = asyncio.create_task(coroutine)
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


async def run_alongside(task: asyncio.Task[Any], work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `work` while `task` goes on, and return its result.

    If `task` fails first, `work` is cancelled at once, and the error of `task` is raised.
    """
    working = asyncio.create_task(work)
    try:
        await asyncio.wait([working, task], return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and (error := task.exception()) is not None:
            raise error
        return await working
    finally:
        if not working.done():
            await run_uncancelled(cancel_and_wait(working))


async def gather_or_cancel(
    coroutines: Iterable[Coroutine[Any, Any, _Result]],
) -> list[_Result]:
    """Run coroutines at the same time and return their results in order.

    If one fails, cancels the others, waits for them, and raises the exception. asyncio.gather would
    leave them running, so they would use connections that the caller closes.
    """
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # To its end: a caller that is cancelled again must not leave the tasks behind.
        await run_uncancelled(cancel_and_wait(*(task for task in tasks if not task.done())))
