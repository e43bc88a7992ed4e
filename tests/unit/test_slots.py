"""Slots: no more at once than there are, in the order asked, and none lost."""

import asyncio

from ingot_server.transcode.slots import Slots


async def test_no_more_than_there_are_at_once() -> None:
    slots, running, most = Slots(3), 0, 0

    async def work(cost: int) -> None:
        nonlocal running, most
        async with slots.acquire(cost):
            running += cost
            most = max(most, running)
            await asyncio.sleep(0)
            running -= cost

    await asyncio.gather(*(work(1 + number % 3) for number in range(30)))
    assert most == 3


async def test_what_costs_much_is_not_overtaken_by_what_costs_little() -> None:
    slots, order = Slots(2), list[str]()

    async def work(name: str, cost: int) -> None:
        async with slots.acquire(cost):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(work("first", 1), work("large", 2), work("small", 1))
    assert order == ["first", "large", "small"]


async def test_more_than_there_are_means_all() -> None:
    slots = Slots(2)
    async with asyncio.timeout(10), slots.acquire(99):
        pass


async def test_a_waiter_that_gives_up_takes_no_slot() -> None:
    slots = Slots(1)
    async with slots.acquire(1):
        waiting = asyncio.create_task(slots.acquire(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with slots.acquire(1):
        pass


async def test_a_waiter_cancelled_when_it_gets_a_slot_passes_it_on() -> None:
    slots = Slots(1)
    async with slots.acquire(1):
        waiting = asyncio.create_task(slots.acquire(1).__aenter__())
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    async with slots.acquire(1):
        pass


async def test_a_waiter_that_gives_up_as_it_gets_a_slot_is_passed_over() -> None:
    slots = Slots(1)
    async with slots.acquire(1):
        waiting = [asyncio.create_task(slots.acquire(1).__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # It learns of it only after the place has become free.
    async with asyncio.timeout(10):
        await asyncio.wait(waiting)
    assert waiting[0].cancelled()
    assert waiting[1].exception() is None


async def test_who_waits_is_told_how_many_are_ahead() -> None:
    slots, ahead = Slots(1), list[int]()

    async def work() -> None:
        async with slots.acquire(1, ahead.append):
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(3)))
    assert ahead == [0, 1]
