"""A metric: its declaration, and how it is counted."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum

from ingot_server.metrics.values import VALUES, Values


class Kind(StrEnum):
    """The types of Prometheus, https://prometheus.io/docs/concepts/metric_types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"
    """A gauge that is 1; its labels are what it tells."""


class Merge(StrEnum):
    """What several processes that are scraped together have as a gauge."""

    SUM = "sum"
    LEAST = "least"
    MOST = "most"


class Origin(StrEnum):
    """Who measures."""

    SERVER = "server"
    WORKER = "worker"
    BOTH = "server and worker"
    INSTALLATION = "installation"
    """Each API server, for the installation as a whole."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of Ingot. Its labels have closed lists of values: no host, id or caller is one."""

    name: str
    kind: Kind
    origin: Origin
    meaning: str
    """One or more sentences."""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram, without the infinite one."""
    merge: Merge = Merge.SUM

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Increase a counter, or change a gauge by `amount`. Call it in the event loop's thread."""
        values = VALUES
        values.cells[values.place((self.name, *labels))] += amount

    def set(self, value: float, *labels: str, into: Values = VALUES) -> None:
        """Set a gauge."""
        into.cells[into.place((self.name, *labels))] = value

    def observe(self, value: float, *labels: str) -> None:
        """Count a value in a histogram. Call it in the event loop's thread."""
        values = VALUES
        count = len(self.buckets) + 2
        at = values.place((self.name, *labels), count)
        values.cells[at + bisect_left(self.buckets, value)] += 1
        values.cells[at + count - 1] += value

    def tell(self, *labels: str, into: Values = VALUES) -> None:
        """Let an info have these labels from now on, and no others."""
        for key in into.keys_of(self.name):
            into.cells[into.place(key)] = 0
        into.cells[into.place((self.name, *labels))] = 1
