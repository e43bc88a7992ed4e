"""The rates that a transfer must keep."""

from __future__ import annotations

from datetime import timedelta

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.setting_values import ByteSize
from ingot_server.transfer.least_rate import (
    LeastRate,
    download_rate,
    first_missed,
    stall_rate,
    too_slow,
)

SETTINGS = Settings(
    stall_rate=ByteSize(10),
    stall_timeout=timedelta(seconds=20),
    least_rate=ByteSize(100),
    least_rate_period=timedelta(minutes=5),
)


def missed(bytes_per_second: int) -> LeastRate | None:
    """The rate that a source which sends so much each second has missed within an hour."""
    rates = (stall_rate(SETTINGS), download_rate(SETTINGS))
    for rate in rates:
        rate.begin(0)
    for second in range(1, 3600):
        if second >= first_missed(rates).deadline:
            return first_missed(rates)
        for rate in rates:
            rate.count(bytes_per_second, second)
    return None


def test_a_source_that_sends_almost_nothing_has_stalled() -> None:
    rate = missed(9)
    assert rate is not None
    assert rate.deadline == 20


def test_a_source_that_trickles_holds_no_slot_for_hours() -> None:
    rate = missed(99)
    assert rate is not None
    assert rate.deadline == 300
    failure = too_slow("slow.example", rate)
    assert failure.reason == reason_pb2.REASON_STALLED
    assert failure.message.startswith("slow.example sent less than 100 bytes per second for 300 s")


def test_a_source_that_keeps_the_rate_goes_on() -> None:
    assert missed(101) is None


def test_a_pause_after_many_bytes_is_no_credit_for_the_next_period() -> None:
    rate = download_rate(SETTINGS)
    rate.begin(0)
    rate.count(1_000_000, 1)
    assert rate.deadline == 301


def test_the_time_of_the_disk_does_not_count() -> None:
    rate = stall_rate(SETTINGS)
    rate.begin(0)
    rate.allow(5)
    assert rate.deadline == 25
