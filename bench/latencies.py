"""What a load saw of each kind of call: how long it took, and with which reasons it failed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

_SHARES = (0.5, 0.9, 0.99, 1.0)


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the least sample that `share` of the samples do not exceed (the nearest rank).

    1.0 is the greatest one. Raises ValueError if there are no samples.
    """
    if not ascending:
        raise ValueError("there are no samples")
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


class Latencies:
    """All samples of a run, each in seconds from the moment at which its call was due."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._failures = Counter[tuple[str, str]]()

    def add(self, kind: str, seconds: float) -> None:
        """Note a call that succeeded."""
        self._seconds[kind].append(seconds)

    def fail(self, kind: str, reason: str) -> None:
        """Note a call that failed."""
        self._failures[kind, reason] += 1

    def report(self) -> str:
        """Return a table of the kinds in milliseconds, and the number of failures by reason."""
        lines = [f"  {'':32} {'count':>7} " + "".join(f"{_name(each):>9}" for each in _SHARES)]
        for kind, samples in sorted(self._seconds.items()):
            ascending = sorted(samples)
            times = "".join(f"{percentile(ascending, each) * 1000:9.1f}" for each in _SHARES)
            lines.append(f"  {kind:32} {len(samples):7,} {times}")
        lines += (
            f"  failed: {kind}, {reason}: {count:,}"
            for (kind, reason), count in sorted(self._failures.items())
        )
        return "\n".join(lines if self._failures else [*lines, "  no call failed"])


def _name(share: float) -> str:
    return "max ms" if share == 1 else f"{share * 100:.0f} %"
