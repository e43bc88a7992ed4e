"""The subscriptions in Redis, and when they are checked. `subscriptions.lua` documents the keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from ingot.v1.subscription_pb2 import Subscription
from ingot_server.jobs.transition import milliseconds
from ingot_server.redis import Redis, unavailable

_SUBSCRIPTION: Final = "subscription:"
_SUBSCRIPTIONS: Final = "subscriptions"
_DUE: Final = "subscriptions-due"
_RESTORED: Final = "subscriptions-restored"
_COMPARISON: Final = "subscriptions-compared"
_COMPARISON_INTERVAL: Final = timedelta(minutes=1)
_REQUEST: Final = "subscription-request:"
_REQUEST_LIFETIME: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class IndexedSubscription:
    """A subscription in Redis."""

    content: bytes
    """A StoredSubscription without what only checks need."""
    status: Subscription
    """What the last check found out; empty if none has ended."""
    due: datetime | None
    """When it is checked next; None if it is paused."""


class SubscriptionIndex:
    """All subscriptions in one Redis. Every method raises Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.load_script(__package__, "arguments.lua", "subscriptions.lua")

    async def put(
        self,
        subscription_id: str,
        content: bytes,
        *,
        revision: int,
        etag: str,
        owner: str,
        paused: bool,
        is_new: bool = False,
        delay: timedelta | None = None,
        unknown_delay: timedelta = timedelta(0),
    ) -> None:
        """Note what the bucket has of a subscription, unless a later revision is known.

        It is due after `delay`. None leaves that as it is; if it is not known, `unknown_delay`.
        """
        await self._script.call(
            "put",
            subscription_id,
            content=content,
            revision=revision,
            etag=etag,
            owner=owner,
            paused=int(paused),
            is_new=int(is_new),
            delay="" if delay is None else milliseconds(delay),
            unknown_delay=milliseconds(unknown_delay),
        )

    async def requested_id(self, request_id: str, new_id: str) -> str:
        """Return the id of the subscription that a request creates: `new_id` for the first one."""
        key = self._redis.key(_REQUEST + request_id)
        with unavailable():
            earlier = await self._redis.set(key, new_id, nx=True, get=True, px=_REQUEST_LIFETIME)
        return cast("bytes", earlier).decode() if earlier else new_id

    async def remove(self, subscription_id: str) -> None:
        """Note that the bucket no longer has a subscription."""
        await self._script.call("remove", subscription_id)

    async def take(self, limit: int, token: str, lease: timedelta) -> Sequence[str]:
        """Return ids of subscriptions that are due, and that the caller must check now.

        They are its own while it renews the lease.
        """
        taken = await self._script.call(
            "take", "", limit=limit, token=token, lease=milliseconds(lease)
        )
        return [member.decode() for member in taken]

    async def renew(self, subscription_id: str, token: str, lease: timedelta) -> bool:
        """Go on with a check; False if it is no longer the caller's."""
        [outcome] = await self._script.call(
            "renew", subscription_id, token=token, lease=milliseconds(lease)
        )
        return bool(outcome == b"done")

    async def release(self, subscription_id: str, token: str) -> None:
        """Give up a check, which another process may begin at once."""
        await self._script.call("release", subscription_id, token=token)

    async def finish(
        self, subscription_id: str, token: str, status: Subscription, delay: timedelta
    ) -> None:
        """Note what a check found out, unless it is no longer the caller's; the next is due then.

        If another check was asked for meanwhile, that stays due.
        """
        await self._script.call(
            "finish",
            subscription_id,
            token=token,
            status=status.SerializeToString(),
            delay=milliseconds(delay),
        )

    async def get_many(self, ids: Sequence[str]) -> Sequence[IndexedSubscription]:
        """Return those subscriptions that are known, in the order of `ids`."""
        with unavailable():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for each in ids:
                    pipeline.hmget(self._redis.key(_SUBSCRIPTION + each), ["content", "status"])
                    pipeline.zscore(self._redis.key(_DUE), each)
                answers = await pipeline.execute()
        return [
            IndexedSubscription(
                content,
                Subscription.FromString(status or b""),
                datetime.fromtimestamp(due / 1000, UTC) if due is not None else None,
            )
            for (content, status), due in zip(answers[::2], answers[1::2], strict=True)
            if content is not None
        ]

    async def page(self, *, limit: int, before: str = "", owner: str = "") -> Sequence[str]:
        """Return at most `limit` ids, the latest first, after `before`; of one owner, if given."""
        with unavailable():
            members = await self._redis.zrevrangebylex(
                self._redis.key(f"{_SUBSCRIPTIONS}:{owner}" if owner else _SUBSCRIPTIONS),
                f"({before}" if before else "+",
                "-",
                start=0,
                num=limit,
            )
        return [cast("bytes", member).decode() for member in members]

    async def count(self, owner: str) -> int:
        """Return how many subscriptions an owner has."""
        with unavailable():
            return int(await self._redis.zcard(self._redis.key(f"{_SUBSCRIPTIONS}:{owner}")))

    async def etags(self, ids: Collection[str]) -> dict[str, str]:
        """Return the ETags of the versions that are known, by id."""
        with unavailable():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for each in ids:
                    pipeline.hget(self._redis.key(_SUBSCRIPTION + each), "etag")
                found = cast("list[bytes | None]", await pipeline.execute())
        return {each: etag.decode() for each, etag in zip(ids, found, strict=True) if etag}

    async def is_restored(self) -> bool:
        """Return whether Redis has all subscriptions of the bucket."""
        with unavailable():
            return bool(await self._redis.exists(self._redis.key(_RESTORED)))

    async def mark_restored(self) -> None:
        """Note that Redis has all subscriptions of the bucket."""
        with unavailable():
            await self._redis.set(self._redis.key(_RESTORED), b"")

    async def begin_comparison(self) -> bool:
        """Return whether the bucket must be compared with Redis now, by this process."""
        with unavailable():
            return bool(
                await self._redis.set(
                    self._redis.key(_COMPARISON), b"", nx=True, px=_COMPARISON_INTERVAL
                )
            )
