"""A bandwidth limit is reached and kept, and connections share it evenly."""

from __future__ import annotations

import pytest

from ingot_server.egress.bandwidth import Bandwidth


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_connection_pauses_as_long_as_what_arrived_takes() -> None:
    clock = Clock()
    bandwidth = Bandwidth(1000, clock=clock)
    assert bandwidth.take(500) == pytest.approx(0.5)
    clock.now += 0.5
    assert bandwidth.take(500) == pytest.approx(0.5)


def test_connections_wait_behind_each_other() -> None:
    bandwidth = Bandwidth(1000, clock=Clock())
    assert [bandwidth.take(100) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_a_pause_is_made_up_for_only_a_little() -> None:
    clock = Clock()
    bandwidth = Bandwidth(1000, clock=clock)
    clock.now += 3600
    assert bandwidth.take(50) == 0
    assert bandwidth.take(1050) == pytest.approx(1.0)


def test_without_a_limit_nothing_pauses() -> None:
    bandwidth = Bandwidth(0)
    assert not bandwidth
    assert bandwidth.take(1 << 40) == 0
