"""When a subscription is checked next."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

DEFAULT_INTERVAL: Final = timedelta(hours=1)
JITTER: Final = 0.1
"""By which share of its interval a check may come earlier or later."""
_FIRST_RETRY: Final = timedelta(minutes=10)
_LONGEST_RETRY: Final = timedelta(days=1)
_MOST_DOUBLINGS: Final = 16


def next_delay(interval: timedelta, generator: random.Random) -> timedelta:
    """Return the time from the end of a check to the next one."""
    return interval * generator.uniform(1 - JITTER, 1 + JITTER)


def retry_delay(
    interval: timedelta, failures: int, retry_after: timedelta, generator: random.Random
) -> timedelta:
    """Return the time to the next check after `failures` in a row, at least 1.

    It doubles with each failure, up to a day or the interval, whichever is longer. `retry_after` is
    how long the last failure asks to wait.
    """
    first = min(interval, _FIRST_RETRY)
    doubled = first * 2 ** min(failures - 1, _MOST_DOUBLINGS)
    delay = next_delay(min(doubled, max(interval, _LONGEST_RETRY)), generator)
    return max(delay, retry_after)


def spread_delay(interval: timedelta, generator: random.Random) -> timedelta:
    """Return when a subscription is due of which Redis has lost when it was: soon, but not all."""
    return min(interval, _FIRST_RETRY) * generator.random()
