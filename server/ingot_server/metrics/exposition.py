"""The text that Prometheus reads, of the values of one process or several."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, assert_never

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from ingot_server.metrics.definitions import METRICS
from ingot_server.metrics.metric import Kind, Merge, Metric
from ingot_server.metrics.values import Key, Snapshot

Found: TypeAlias = Iterable[tuple[Key, list[Sequence[float]]]]
"""The values of the labels of a metric, and the cells of each process that has them."""

_MERGED: Final[Mapping[Merge, Callable[[list[float]], float]]] = {
    Merge.SUM: sum,
    Merge.LEAST: min,
    Merge.MOST: max,
}


def text_of(snapshots: Iterable[Snapshot], accept: str) -> tuple[bytes, str]:
    """Return the metrics of all processes as one, and the content type.

    That is OpenMetrics if a header `accept` asks for it, and else the text of Prometheus.
    """
    try:
        encode, content_type = exposition.choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is not a number
        encode, content_type = exposition.choose_encoder("")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Values(snapshots))
    return encode(registry), content_type


class _Values(Collector):
    """What `prometheus_client` writes."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self._found: defaultdict[str, defaultdict[Key, list[Sequence[float]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for snapshot in snapshots:
            for (name, *labels), cells in snapshot.items():
                self._found[name][tuple(labels)].append(cells)

    def describe(self) -> Iterable[Family]:
        """Tell nothing in advance: all that is registered comes from here."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Yield the metrics that have values, in the order of their list."""
        for metric in METRICS:
            if found := self._found.get(metric.name):
                yield _family(metric, sorted(found.items()))


def _family(metric: Metric, found: Found) -> Family:
    match metric.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
            for labels, processes in found:
                counter.add_metric(labels, sum(cells[0] for cells in processes))
            return counter
        case Kind.GAUGE:
            return _gauge(metric, found)
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
            for labels, processes in found:
                *counts, total = map(sum, zip(*processes, strict=True))
                histogram.add_metric(labels, _cumulative(metric.buckets, counts), total)
            return histogram
        case Kind.INFO:
            return _info(metric, found)
        case _:
            assert_never(metric.kind)


def _gauge(metric: Metric, found: Found) -> Family:
    gauge = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, processes in found:
        known = [cells[0] for cells in processes if not math.isnan(cells[0])]
        if known:
            gauge.add_metric(labels, _MERGED[metric.merge](known))
    return gauge


def _info(metric: Metric, found: Found) -> Family:
    info = InfoMetricFamily(metric.name.removesuffix("_info"), metric.meaning, labels=())
    for labels, processes in found:
        if any(cells[0] for cells in processes):
            info.add_metric((), dict(zip(metric.labels, labels, strict=True)))
    return info


def _cumulative(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    total, buckets = 0.0, []
    for bound, count in zip((*map(repr, bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
