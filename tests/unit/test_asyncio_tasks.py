"""Tasks that run at the same time: one that fails ends the others."""

from __future__ import annotations

import asyncio
import gc

import pytest

from ingot_server.asyncio_tasks import gather_or_cancel, run_alongside


async def test_results_are_in_the_order_of_the_coroutines() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.02 - number / 100)
        return number

    assert await gather_or_cancel(work(number) for number in range(3)) == [0, 1, 2]


async def test_a_failing_task_cancels_the_others() -> None:
    ended = []

    async def fail() -> None:
        raise ValueError("one of them failed")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            ended.append(True)

    with pytest.raises(ValueError, match="one of them"):
        await gather_or_cancel([work(), fail(), work()])

    assert ended == [True, True]


async def test_work_beside_a_task_that_fails_is_cancelled_until_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cancellations = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("the task failed")

    async def work() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations.append(True)  # as a library may lose it
        raise OSError("the connection broke")

    with pytest.raises(ValueError, match="the task failed"):
        await run_alongside(asyncio.create_task(fail()), work())
    gc.collect()

    assert cancellations == [True, True]
    assert caplog.text == "", "what the work ended with was not retrieved"
