"""A discrete-event simulation of customers who wait for servers, first come, first served.

A customer is a generator. It yields a Server to get one of its units, or a number of seconds to let
that time pass, and calls `release` when it no longer needs the unit.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Generator
from typing import TypeAlias

Customer: TypeAlias = "Generator[Server | float, None, None]"


class Simulation:
    """The clock, and what happens next. `now` is in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Customer]] = []
        self._order = itertools.count()

    def start(self, customer: Customer, *, after: float = 0.0) -> None:
        """Let a customer act from `after` seconds from now on."""
        # What happens at the same time happens in the order in which it was decided.
        heapq.heappush(self._events, (self.now + after, next(self._order), customer))

    def run(self, seconds: float) -> None:
        """Let time pass, for as long as anything happens."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, customer = heapq.heappop(self._events)
            self._advance(customer)
        self.now = end

    def _advance(self, customer: Customer) -> None:
        for step in customer:
            if isinstance(step, Server):
                if not step.take(customer):
                    return
            else:
                self.start(customer, after=step)
                return


class Server:
    """Units that customers wait for."""

    def __init__(self, simulation: Simulation, units: int) -> None:
        self.units = units
        self.busy_seconds = 0.0
        """Of all units, as `use` counts it."""
        self._simulation = simulation
        self._free = units
        self._waiting: deque[Customer] = deque()

    @property
    def load(self) -> float:
        """The share of its time so far that a unit was used, on average."""
        return self.busy_seconds / (self.units * self._simulation.now)

    def take(self, customer: Customer) -> bool:
        """Give the customer a unit now, or else as soon as those before it have released theirs."""
        if self._free:
            self._free -= 1
            return True
        self._waiting.append(customer)
        return False

    def release(self) -> None:
        """Take a unit back from a customer that had one."""
        if self._waiting:
            self._simulation.start(self._waiting.popleft())
        else:
            self._free += 1


def use(seconds: float, *servers: Server) -> Customer:
    """Get a unit of each server, in this order, and release all of them after `seconds`."""
    for server in servers:
        yield server
        server.busy_seconds += seconds
    yield seconds
    for server in servers:
        server.release()
