"""When the calls of a load come, and what its report says."""

import itertools
import math

import pytest

from bench.arrivals import arrivals
from bench.latencies import Latencies, percentile


@pytest.mark.parametrize(
    ("share", "sample"), [(0.0, 1), (0.5, 5), (0.9, 9), (0.91, 10), (0.99, 10), (1.0, 10)]
)
def test_a_percentile_is_the_sample_of_the_nearest_rank(share: float, sample: int) -> None:
    assert percentile(range(1, 11), share) == sample


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_the_report_has_samples_in_milliseconds_and_failures_by_reason() -> None:
    latencies = Latencies()
    assert "no call failed" in latencies.report()
    for milliseconds in range(1, 101):
        latencies.add("GetMedia", milliseconds / 1000)
    latencies.fail("GetMedia", "QUOTA_EXCEEDED")
    latencies.fail("GetMedia", "QUOTA_EXCEEDED")
    _, row, failures = latencies.report().splitlines()
    assert row.split() == ["GetMedia", "100", "50.0", "90.0", "99.0", "100.0"]
    assert failures.strip() == "failed: GetMedia, QUOTA_EXCEEDED: 2"


def test_arrivals_are_a_poisson_process_of_each_kind() -> None:
    found = list(arrivals({"often": 20.0, "seldom": 5.0, "never": 0.0}, 1000, seed=1))
    assert found == sorted(found)
    for kind, rate in (("often", 20.0), ("seldom", 5.0)):
        times = [moment for moment, each in found if each == kind]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        # The mean of an exponential distribution, and the share that is longer than it.
        assert sum(gaps) / len(gaps) == pytest.approx(1 / rate, rel=0.05)
        longer = sum(gap > 1 / rate for gap in gaps) / len(gaps)
        assert longer == pytest.approx(1 / math.e, rel=0.05)


def test_arrivals_depend_on_the_seed_and_not_on_other_kinds() -> None:
    alone = list(arrivals({"a": 3.0}, 20, seed=7))
    assert [each for each in arrivals({"a": 3.0, "b": 9.0}, 20, seed=7) if each[1] == "a"] == alone
    assert list(arrivals({"a": 3.0}, 20, seed=8)) != alone
