"""What a scrape has found, by both formats that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import aiohttp
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families

from ingot_server.metrics.definitions import METRICS

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """The samples of one scrape."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.families = list(families)
        self.samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels, and perhaps others."""
        return sum(value for value in self.values(name, **labels))

    def values(self, name: str, **labels: str) -> Iterator[float]:
        for (found, all_labels), value in self.samples.items():
            if found == name and labels.items() <= all_labels:
                yield value

    def assert_listed(self) -> None:
        """Every sample is of a metric in the list, with its labels."""
        metrics = {each.name.removesuffix("_total").removesuffix("_info"): each for each in METRICS}
        for family in self.families:
            name = family.name.removesuffix("_info").removesuffix("_total")
            metric = metrics[name]
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(metric.labels)


def scraped(text: bytes) -> Scraped:
    """Parse the text format of Prometheus."""
    return Scraped(text_string_to_metric_families(text.decode()))


async def scrape(url: str, token: str = "") -> Scraped:
    """Read `url` in both formats, which have the same; return what it has."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as http:
        async with http.get(url, headers={"Accept": OPENMETRICS}) as response:
            assert response.content_type == "application/openmetrics-text"
            parse: Callable[[str], Iterable[Family]] = parser.text_string_to_metric_families
            exact = Scraped(parse(await response.text()))
        async with http.get(url) as response:
            assert response.content_type == "text/plain"
            found = scraped(await response.read())
    exact.assert_listed()
    found.assert_listed()
    assert exact.samples.keys() <= found.samples.keys()
    return found
