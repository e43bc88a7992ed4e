"""The deliveries of webhooks in Redis. `webhooks.lua` and `deliveries.lua` document the keys.

A worker that takes a delivery has a lease on it: no other worker sends it before the lease ends,
and then each of them may. So a receiver can get a delivery twice, always with the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from ingot.v1.webhook_pb2 import WebhookDelivery
from ingot_server.config import Settings
from ingot_server.jobs.transition import milliseconds
from ingot_server.redis import Redis, unavailable

PER_HOST: Final = 4
"""Requests to one host at the same time, of all workers: a slow one does not hold up the others."""
# Both together are less than UNWRITTEN_AGE in webhooks.lua.
WRITTEN_AFTER: Final = timedelta(seconds=60)
WRITE_INTERVAL: Final = timedelta(seconds=15)
_CHECK: Final = "webhook-check"
_CHECK_INTERVAL: Final = timedelta(minutes=1)
_WRITTEN_AT_ONCE: Final = 1000
_DELIVERY: Final = "webhook-delivery:"
_DELIVERIES: Final = "webhook-deliveries"
_NAMES: Final = (
    "url",
    "body",
    "state",
    "create_time",
    "since",
    "attempts",
    "run",
    "problem",
    "due",
    "end_time",
    "trace",
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery on record."""

    id: str
    url: str
    """Empty for that of the settings."""
    body: bytes
    state: WebhookDelivery.State.ValueType
    create_time: datetime
    since: datetime
    """When it was made, or replayed last."""
    attempts: int
    """Since then."""
    run: int
    """Number of the last attempt of all."""
    problem: str
    due: datetime
    end_time: datetime | None
    trace: str
    """The span that made its job, as a W3C traceparent; empty if that is not traced."""

    @property
    def job_id(self) -> str:
        """Return the id of its job."""
        return self.id.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one attempt: it was accepted unless there is a `problem`."""

    problem: str = ""
    delay: timedelta = timedelta(0)
    """Until the next attempt."""
    is_gone: bool = False
    """The receiver wants nothing more at this URL."""


class WebhookDeliveries:
    """All deliveries. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._script = redis.load_script(
            __package__, "arguments.lua", "webhooks.lua", "deliveries.lua"
        )

    async def take(self, limit: int, lease: timedelta) -> Sequence[Delivery]:
        """Return deliveries that the caller must send within `lease`, the longest due first."""
        taken = await self._script.call(
            "take", "", limit=limit, lease=milliseconds(lease), per_host=PER_HOST, **self._common()
        )
        return await self.get_many([member.decode() for member in taken])

    async def record(self, delivery: Delivery, sent: Sent) -> None:
        """Note what came of an attempt, unless another worker has taken the delivery since."""
        outcome = ("gone" if sent.is_gone else "failed") if sent.problem else "delivered"
        await self._script.call(
            "sent",
            delivery.id,
            run=delivery.run,
            outcome=outcome,
            delay=milliseconds(sent.delay),
            problem=sent.problem,
            keep=milliseconds(self._settings.job_ttl),
            **self._common(),
        )

    async def replay(self, delivery_id: str) -> Delivery | None:
        """Make a delivery due now, whatever its state is; None if it is not known."""
        [outcome] = await self._script.call("replay", delivery_id, url=self._settings.webhook_url)
        if outcome == b"unknown":
            return None
        found = await self.get_many([delivery_id])
        return found[0] if found else None

    async def get_many(self, ids: Sequence[str]) -> Sequence[Delivery]:
        """Return those deliveries that are known, in the order of `ids`."""
        with unavailable():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for each in ids:
                    pipeline.hmget(self._redis.key(_DELIVERY + each), list(_NAMES))
                stored = await pipeline.execute()
        found = zip(ids, cast("list[list[bytes | None]]", stored), strict=True)
        return [_delivery(each, values) for each, values in found if values[0] is not None]

    async def page(
        self,
        *,
        limit: int,
        before: str = "",
        job_id: str = "",
        state: WebhookDelivery.State.ValueType = WebhookDelivery.STATE_UNSPECIFIED,
    ) -> Sequence[Delivery]:
        """Return at most `limit` deliveries, those of later jobs first.

        `before` is the last id of the previous page. A page with fewer than `limit` is the last.
        """
        last = f"({job_id}." if job_id else "+"
        with unavailable():
            members = await self._redis.zrevrangebylex(
                self._redis.key(f"{_DELIVERIES}:{state}" if state else _DELIVERIES),
                f"({before}" if before else last,
                f"[{job_id}-" if job_id else "-",
                start=0,
                num=limit,
            )
        return await self.get_many([cast("bytes", member).decode() for member in members])

    async def unwritten(self) -> Sequence[Delivery]:
        """Return pending deliveries that the bucket must get now; none if it just got some."""
        members = await self._script.call(
            "unwritten",
            "",
            limit=_WRITTEN_AT_ONCE,
            age=milliseconds(WRITTEN_AFTER),
            interval=milliseconds(WRITE_INTERVAL),
        )
        return await self.get_many([member.decode() for member in members])

    async def note(self, group: str, ids: Sequence[str]) -> bool:
        """Note that the object of a group is in the bucket and has these deliveries.

        Returns False if one is not known, because Redis has lost it. Then nothing is noted.
        """
        [outcome] = await self._script.call("note", group, deliveries=" ".join(ids))
        return bool(outcome == b"done")

    async def begin_check(self) -> bool:
        """Return whether the bucket must be compared with Redis now, by this process."""
        with unavailable():
            return bool(
                await self._redis.set(self._redis.key(_CHECK), "", nx=True, px=_CHECK_INTERVAL)
            )

    async def unknown(self, groups: Sequence[str]) -> Sequence[str]:
        """Return those groups that were never noted, or that Redis has lost."""
        members = await self._script.call("unknown", "", groups=" ".join(groups))
        return [member.decode() for member in members]

    async def restore(
        self, delivery_id: str, url: str, body: bytes, create_time: datetime, trace: str = ""
    ) -> None:
        """Make a delivery again that Redis has lost. Does nothing if it is known."""
        await self._script.call(
            "restore",
            delivery_id,
            url=url,
            body=body,
            create_time=round(create_time.timestamp() * 1000),
            **({"trace": trace} if trace else {}),
        )

    async def empty(self) -> Sequence[str]:
        """Return the groups of which all deliveries have ended."""
        return [member.decode() for member in await self._script.call("empty", "")]

    async def removed(self, groups: Sequence[str]) -> None:
        """Note that groups are no longer in the bucket."""
        await self._script.call("removed", "", groups=" ".join(groups))

    def _common(self) -> dict[str, str | int]:
        return {
            "url": self._settings.webhook_url,
            "ttl": milliseconds(self._settings.webhook_ttl),
        }


def _delivery(delivery_id: str, values: Sequence[bytes | None]) -> Delivery:
    url, body, state, create_time, since, attempts, run, problem, due, end_time, trace = (
        value or b"" for value in values
    )
    return Delivery(
        delivery_id,
        url.decode(),
        body,
        WebhookDelivery.State.ValueType(int(state)),
        _time(create_time),
        _time(since),
        int(attempts),
        int(run),
        problem.decode(),
        _time(due),
        _time(end_time) if end_time else None,
        trace.decode(),
    )


def _time(milliseconds_text: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds_text) / 1000, UTC)
