"""When calls arrive that do not wait for each other: a Poisson process for each kind of call."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping


def arrivals(
    rates: Mapping[str, float], seconds: float, *, seed: int
) -> Iterator[tuple[float, str]]:
    """Yield the time of each call in seconds from the start, and its kind, in the order of time.

    `rates` has the calls a second of each kind. The same seed gives the same times, and those of
    one kind do not depend on the other kinds.
    """
    return heapq.merge(
        *(
            _process(kind, rate, seconds, random.Random(f"{seed} {kind}"))
            for kind, rate in rates.items()
        )
    )


def _process(
    kind: str, rate: float, seconds: float, choices: random.Random
) -> Iterator[tuple[float, str]]:
    moment = 0.0
    while rate and (moment := moment + choices.expovariate(rate)) < seconds:
        yield moment, kind
