"""How many calls one caller may make, over several API servers."""

from __future__ import annotations

import asyncio
import time

from ingot.v1 import reason_pb2
from ingot_server.api.call_rates import CallRates
from ingot_server.api.caller import Caller
from ingot_server.caller_limits import CallerLimits
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.redis import Redis, connect


def caller(name: str, calls: int) -> Caller:
    """A caller that may make so many calls in a second."""
    return Caller("ipv4:127.0.0.1:40000", name, limits=CallerLimits(calls=calls))


RECORDER = caller("recorder", 40)


async def passed(rates: CallRates, calls: int, caller: Caller) -> int:
    """How many of so many calls at once may pass."""
    results = await asyncio.gather(
        *(rates.count(caller) for _ in range(calls)), return_exceptions=True
    )
    for result in results:
        if isinstance(result, Exception):
            assert isinstance(result, Failure), result
            assert result.reason == reason_pb2.REASON_QUOTA_EXCEEDED
            assert result.metadata == {"quota": "calls", "limit": "40"}
    return sum(result is None for result in results)


async def refusal(rates: CallRates) -> Failure:
    """Call until that is too often."""
    while True:
        try:
            await rates.count(RECORDER)
        except Failure as failure:
            return failure


async def test_servers_share_the_rate_of_a_caller(redis: Redis) -> None:
    servers = [CallRates(redis) for _ in range(3)]
    began = time.monotonic()
    # Until each of them has been refused.
    found = await asyncio.gather(*(passed(server, 200, RECORDER) for server in servers))
    seconds = time.monotonic() - began
    assert 40 <= sum(found) <= 40 + 40 * seconds + 1
    assert await passed(servers[0], 40, caller("another", 40)) == 40


async def test_a_refused_caller_may_go_on_when_it_is_told(redis: Redis) -> None:
    rates = CallRates(redis)
    wait = (await refusal(rates)).retry_after.total_seconds()
    assert 0 < wait <= 1 / 40
    await asyncio.sleep(wait)
    await rates.count(RECORDER)


async def test_hardly_any_call_uses_redis(redis: Redis) -> None:
    rates, often = CallRates(redis), caller("often", 1_000_000)
    await rates.count(often)
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    for _ in range(5000):
        await rates.count(often)
    used = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before
    # Each share is twice as large as the one before.
    assert used <= 30


async def test_a_caller_without_a_limit_is_not_counted(redis: Redis) -> None:
    assert await passed(CallRates(redis), 200, caller("unlimited", 0)) == 200
    assert not await redis.keys("*call-rate*")


async def test_calls_pass_while_redis_is_away(settings: Settings) -> None:
    async with connect(settings.replace(redis_url="redis://127.0.0.1:1")) as nowhere:
        assert await passed(CallRates(nowhere), 40, RECORDER) == 40
