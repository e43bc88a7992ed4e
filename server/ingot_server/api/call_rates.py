"""How many calls a second each caller may make, over all API servers together.

A server takes a share of a caller's calls for about a second, so that hardly any call uses Redis.
What it has not used it gives back with the next share. So a caller may exceed its rate by what one
second allows.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, cast

from ingot_server.api.caller import Caller
from ingot_server.errors import Failure, quota_exceeded
from ingot_server.redis import Redis, unavailable

_SHARE_SECONDS: Final = 1.0
# A caller that has just begun gets at least so many at once.
_LEAST_SHARE: Final = 10
# Above this many callers, those without a share are forgotten.
_MOST_CALLERS: Final = 10_000


@dataclass(slots=True)
class _Share:
    """The calls of one caller that this server may still let pass; times are in seconds."""

    left: int = 0
    used: int = 0
    ends: float = 0.0
    refused_until: float = 0.0
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self, now: float) -> bool:
        """Use one call of the share, if there is one."""
        if not self.left or now >= self.ends:
            return False
        self.left -= 1
        self.used += 1
        return True


class CallRates:
    """A bound on the calls of each caller, which is its limit `calls`."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.load_script(__package__, "call_rates.lua")
        self._shares: dict[str, _Share] = {}

    async def count(self, caller: Caller) -> None:
        """Count a call. Raises Failure QUOTA_EXCEEDED if the caller has made too many.

        While Redis cannot be used, calls are not counted, and every call passes.
        """
        rate = caller.limits.calls
        if not rate:
            return
        share = self._shares.get(caller.key) or self._new_share(caller.key)
        if share.take(time.monotonic()):
            return
        async with share.taking:
            now = time.monotonic()
            if share.take(now):
                return
            if now >= share.refused_until:
                await self._renew(caller.key, rate, share)
                if share.take(time.monotonic()):
                    return
        wait = max(0.0, share.refused_until - time.monotonic())
        raise quota_exceeded(
            "calls",
            rate,
            f"You make more than {rate} calls in a second, which is the limit. Call again "
            "later, or use one WatchJobs or BatchGetMedia in place of many calls.",
            retry_after=timedelta(seconds=wait),
        )

    async def _renew(self, key: str, rate: int, share: _Share) -> None:
        """Take another share, as large as the last one was used."""
        wanted = min(rate, max(_LEAST_SHARE, 2 * share.used))
        try:
            with unavailable():
                granted, wait_ms = cast(
                    "list[int]", await self._script.run([key, rate, wanted, share.left])
                )
        except Failure:
            granted, wait_ms = wanted, 0
        now = time.monotonic()
        share.left, share.used, share.ends = granted, 0, now + _SHARE_SECONDS
        share.refused_until = now + wait_ms / 1000 if not granted else 0.0

    def _new_share(self, key: str) -> _Share:
        if len(self._shares) >= _MOST_CALLERS:
            now = time.monotonic()
            self._shares = {
                key: share
                for key, share in self._shares.items()
                if share.ends > now or share.taking.locked()
            }
        return self._shares.setdefault(key, _Share())
