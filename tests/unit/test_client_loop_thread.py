"""Ctrl-C at any moment of a blocking call ends what the call runs, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from ingot.loop_thread import LoopThread


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.stop()


def interrupt_once(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch, *, after_scheduling: bool
) -> None:
    """Interrupt the next call immediately before or after its coroutine is scheduled."""
    schedule = thread._loop.call_soon_threadsafe

    def interrupted(callback: Callable[..., object], *arguments: Any) -> None:
        monkeypatch.undo()
        if after_scheduling:
            schedule(callback, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(thread._loop, "call_soon_threadsafe", interrupted)


@pytest.mark.parametrize("after_scheduling", [True, False])
def test_an_interrupted_call_has_ended_what_it_ran(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch, after_scheduling: bool
) -> None:
    closed = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    iterator = thread.iterate(items())
    assert next(iterator) == 1
    interrupt_once(thread, monkeypatch, after_scheduling=after_scheduling)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)

    assert closed == [True]
    assert thread.run(asyncio.sleep(0, "usable")) == "usable"


def test_what_a_coroutine_raises_does_not_end_the_thread(thread: LoopThread) -> None:
    async def exit_() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        thread.run(exit_())
    assert thread.run(asyncio.sleep(0, "usable")) == "usable"
