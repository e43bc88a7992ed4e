import time

import pytest

from ingot_server.pipeline.progress import Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rate_share_and_time_left_come_from_the_last_seconds(clock: list[float]) -> None:
    meter = Meter()
    clock[0] += 2
    meter.advance(200, 1000)

    measured = meter.measure()

    assert measured.bytes_done == 200
    assert measured.fraction == pytest.approx(0.2)
    assert measured.bytes_per_second == pytest.approx(100)
    assert measured.eta.seconds == 8


def test_an_unknown_total_has_no_share_and_no_time_left(clock: list[float]) -> None:
    meter = Meter()
    clock[0] += 1
    meter.advance(50, None)

    measured = meter.measure()

    assert not measured.HasField("fraction")
    assert not measured.HasField("bytes_total")
    assert not measured.HasField("eta")
    assert measured.bytes_per_second == pytest.approx(50)


def test_what_was_long_ago_does_not_count(clock: list[float]) -> None:
    meter = Meter()
    for _ in range(20):
        clock[0] += 1
        meter.advance(1000, 2000)
        measured = meter.measure()

    assert measured.bytes_per_second == 0
    assert not measured.HasField("eta")


def test_a_download_that_begins_again_has_no_negative_rate(clock: list[float]) -> None:
    meter = Meter()
    clock[0] += 1
    meter.advance(500, 1000)
    meter.measure()
    clock[0] += 1
    meter.advance(0, 1000)

    assert meter.measure().bytes_per_second == 0
