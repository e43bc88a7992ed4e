"""The rates that a transfer must keep: none may stand still, or hold its slot for hours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.transfer.response_body import ResponseBody


class LeastRate:
    """So many bytes that must move in each period; times are those of one clock, in seconds.

    A period ends as soon as its bytes have moved, and then the next one begins.
    """

    def __init__(self, bytes_per_second: int, seconds: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.seconds = seconds
        self._due = max(1, int(bytes_per_second * seconds))
        self._missing = self._due
        self.deadline = 0.0

    def begin(self, now: float) -> None:
        """Begin a period."""
        self._missing = self._due
        self.deadline = now + self.seconds

    def count(self, size: int, now: float) -> None:
        """Count bytes that have moved."""
        self._missing -= size
        if self._missing <= 0:
            self.begin(now)

    def allow(self, seconds: float) -> None:
        """Do not count time that the transfer has lost by itself, such as that of the disk."""
        self.deadline += seconds


class DownloadRates:
    """The rates of one download, which begins now: of each response, and of all of it together.

    A source that breaks off again and again must keep the second one, too.
    """

    def __init__(self, settings: Settings) -> None:
        self._clock = asyncio.get_running_loop().time
        self._stall = stall_rate(settings)
        self._both = (self._stall, download_rate(settings))
        for rate in self._both:
            rate.begin(self._clock())

    def begin_response(self) -> None:
        """Begin to read another response."""
        self._stall.begin(self._clock())

    async def read(self, body: ResponseBody, host: str) -> bytes:
        """Return the next bytes of a body as `ResponseBody.read` does. Raises Failure STALLED."""
        rate = first_missed(self._both)
        try:
            async with asyncio.timeout_at(rate.deadline):
                data = await body.read()
        except TimeoutError as error:
            raise too_slow(host, rate) from error
        now = self._clock()
        for rate in self._both:
            rate.count(len(data), now)
        return data

    def allow(self, seconds: float) -> None:
        """Do not count time in which nothing was asked of the source."""
        for rate in self._both:
            rate.allow(seconds)


def stall_rate(settings: Settings) -> LeastRate:
    """Return the rate below which a transfer stalls."""
    return LeastRate(settings.stall_rate, settings.stall_timeout.total_seconds())


def download_rate(settings: Settings) -> LeastRate:
    """Return the rate below which a download holds its slot for too little."""
    return LeastRate(settings.least_rate, settings.least_rate_period.total_seconds())


def first_missed(rates: Sequence[LeastRate]) -> LeastRate:
    """Return the one whose period ends first."""
    return min(rates, key=lambda rate: rate.deadline)


def too_slow(host: str, rate: LeastRate) -> Failure:
    """Return the failure of a source that has not kept `rate`."""
    return Failure(
        reason_pb2.REASON_STALLED,
        f"{host} sent less than {rate.bytes_per_second} bytes per second for {rate.seconds:g} s. "
        "Try again later, or lower INGOT_STALL_RATE or INGOT_LEAST_RATE on the server.",
    )
