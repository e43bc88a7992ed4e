"""Gathering tasks: one that fails ends the others."""

from __future__ import annotations

import asyncio

import pytest

from ingot_server.asyncio_tasks import gather_or_cancel


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
