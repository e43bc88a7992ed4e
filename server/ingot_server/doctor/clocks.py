"""Whether the clocks of this machine, Redis and S3 agree."""

from __future__ import annotations

import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from ingot_server.config import Settings
from ingot_server.findings import Finding, ok, problem, warning
from ingot_server.library.s3 import S3
from ingot_server.redis import Redis, unavailable

_TOLERATED_SECONDS: Final = 1.0
_SYNCHRONIZE: Final = "Synchronize both clocks, for example with chrony or systemd-timesyncd."


async def check_redis_clock(redis: Redis) -> Finding:
    """Compare this machine's clock with that of Redis, which decides when leases end."""
    name = "Redis clock"
    before = time.time()
    with unavailable():
        seconds, microseconds = await redis.time()
    skew = _skew(seconds + microseconds / 1e6, seconds + microseconds / 1e6, before, time.time())
    if abs(skew) <= _TOLERATED_SECONDS:
        return ok(name, "It agrees with the clock of this machine.")
    return warning(
        name,
        f"It is {_in_words(skew)} that of this machine, so times and delays of jobs are wrong.",
        _SYNCHRONIZE,
    )


def check_s3_clock(s3: S3, settings: Settings) -> Finding:
    """Compare this machine's clock with that of S3, which decides when a signature expires.

    Raises what the SDK raises if the server cannot be reached.
    """
    name = "S3 clock"
    probe = s3.object_name("probe/clock")
    url = s3.small.client.get_presigned_url("HEAD", s3.bucket, probe, timedelta(minutes=1))
    before = time.time()
    response = s3.small.connections.request("HEAD", url)
    after = time.time()
    try:
        date = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except ValueError:
        return warning(
            name, "The S3 server sends no Date, so its clock was not compared.", _SYNCHRONIZE
        )
    # A Date has whole seconds.
    skew = _skew(date, date + 1, before, after)
    lease = settings.lease.total_seconds()
    if abs(skew) <= _TOLERATED_SECONDS:
        return ok(name, "It agrees with the clock of this machine.")
    if skew > 0:
        text = "signatures of commits expire early or have expired before they arrive"
    else:
        text = "the commit of a worker that lost its lease is accepted for longer"
    message = f"It is {_in_words(skew)} that of this machine, so {text}."
    # A commit is signed for as long as its lease may last.
    make = problem if abs(skew) > lease / 2 else warning
    return make(name, message, _SYNCHRONIZE)


def _skew(earliest: float, latest: float, before: float, after: float) -> float:
    """Return by how much a clock is ahead at least, negative if it is behind.

    It was read between `before` and `after`, and showed something from `earliest` to `latest`.
    """
    if earliest > after:
        return earliest - after
    return min(0.0, latest - before)


def _in_words(skew: float) -> str:
    return f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'}"
