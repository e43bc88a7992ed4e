"""All orders in which the steps of several coroutines can happen, tried one after another.

A coroutine runs until it waits for something outside, such as the answer of a server. When all of
them wait, the world says what may happen next, and one of that is chosen. `explore` tries every
choice in every state, each time from the beginning; a state that was reached before, by whatever
way, is not gone on from again.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Step:
    """Something that may happen next."""

    name: str
    take: Callable[[], None]


class World(Protocol):
    """What the coroutines act on."""

    async def run(self) -> None:
        """Start the coroutines, wait for them, and check how it ended."""

    def steps(self) -> Sequence[Step]:
        """Return what may happen next, always in the same order."""

    def state(self) -> Hashable:
        """Return a value that is equal only if everything that follows may be the same."""

    def check(self) -> None:
        """Raise AssertionError if the state breaks a promise."""

    def end(self) -> None:
        """Answer everything at once from now on: no order is of interest any more."""


class Violation(AssertionError):
    """A promise was broken; the message has the steps that led there."""


def explore(make: Callable[[], World], *, most: int) -> int:
    """Try all orders in the worlds that `make` returns; return the number of states.

    Raises Violation for the first broken promise, and AssertionError for more than `most` states.
    """
    seen: set[Hashable] = set()
    untried: list[list[int]] = [[]]
    while untried:
        _Run(make(), untried.pop(), seen, untried).go()
        assert len(seen) <= most, f"more than {most} states"
    return len(seen)


class _SeenBefore(Exception):
    """The rest of a run is known."""


class _Run:
    """One order: `choices` first, then the first choice in every new state."""

    def __init__(
        self, world: World, choices: list[int], seen: set[Hashable], untried: list[list[int]]
    ) -> None:
        self._world = world
        self._choices = choices
        self._seen = seen
        self._untried = untried
        self._taken: list[str] = []
        self._loop = _Loop(self._all_wait)

    def go(self) -> None:
        try:
            self._loop.run_until_complete(self._world.run())
        except _SeenBefore:
            pass
        except AssertionError as broken:
            steps = "\n  ".join(self._taken)
            raise Violation(f"{broken}\nafter:\n  {steps}") from broken
        finally:
            self._world.end()
            self._loop.finish()

    def _all_wait(self, sleeps: bool) -> None:
        steps = list(self._world.steps())
        if sleeps:
            steps.append(Step("time passes", self._loop.wake_next))
        number = len(self._taken)
        if number < len(self._choices):
            choice = self._choices[number]
        else:
            self._world.check()
            state = (self._world.state(), sleeps)
            if state in self._seen:
                raise _SeenBefore
            self._seen.add(state)
            assert steps, "a coroutine waits, but nothing can happen any more"
            choice = 0
            self._untried.extend([*self._choices, other] for other in range(1, len(steps)))
            self._choices.append(0)
        self._taken.append(steps[choice].name)
        steps[choice].take()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still, and that tells when all coroutines wait."""

    def __init__(self, all_wait: Callable[[bool], None]) -> None:
        self._now = 0.0
        self._next = 0.0
        self._all_wait: Callable[[bool], None] | None = all_wait
        super().__init__(_Selector(self._nothing_to_do))

    def time(self) -> float:
        return self._now

    def wake_next(self) -> None:
        """Go to the time at which the first sleeper wakes."""
        self._now = self._next

    def finish(self) -> None:
        """Cancel what still runs, and close."""
        self._all_wait = None
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self.run_until_complete(_ended(tasks))
        self.close()

    def _nothing_to_do(self, seconds: float | None) -> None:
        if seconds is not None:
            self._next = self._now + seconds
        if self._all_wait is not None:
            self._all_wait(seconds is not None)
        elif seconds is not None:
            self.wake_next()


class _Selector(selectors.SelectSelector):
    """The loop calls `select` with a timeout only if nothing is ready to run."""

    def __init__(self, nothing_to_do: Callable[[float | None], None]) -> None:
        super().__init__()
        self._nothing_to_do = nothing_to_do

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._nothing_to_do(timeout)
        return super().select(0)


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
