"""The store of subscriptions: the bucket is the truth, Redis has a copy and the schedule.

    change: read the bucket -> write it under a condition -> note it in Redis
    restore: list the bucket -> read what Redis has in another version -> note it

A process that is killed between a write and its note leaves Redis behind. Once a minute one API
server compares the two, for one LIST.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.subscription_pb2 import Subscription
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.following.schedule import spread_delay
from ingot_server.jobs.subscription_index import IndexedSubscription, SubscriptionIndex
from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import StoredSubscription
from ingot_server.library.subscription_objects import SubscriptionObjects, SubscriptionVersion
from ingot_server.redis import Redis

logger = EventLogger(__name__)

NOW: Final = timedelta(0)
_TRIES: Final = 5
_CHUNK: Final = 500
_FROM_CHECKS: Final = ("last_check_time", "last_error", "failure_count", "entry_count")


class Subscriptions:
    """All subscriptions.

    Every coroutine raises Failure with CACHE_UNAVAILABLE or STORAGE_UNAVAILABLE.
    """

    def __init__(self, redis: Redis, blobs: Blobs) -> None:
        self.index = SubscriptionIndex(redis)
        """The copy in Redis, and the schedule."""
        self._objects = SubscriptionObjects(blobs)
        self._random = random.Random()  # noqa: S311 - a schedule is not a secret
        self.on_due_now: Callable[[], None] = lambda: None
        """Called when a subscription became due at once by a call of this process."""

    async def create(self, stored: StoredSubscription) -> Subscription | None:
        """Store a new subscription, which is due at once; None if there is one with its id."""
        stored.revision = 1
        version = await self._objects.write(stored)
        if version is None:
            return None
        await self._note(version, delay=NOW, is_new=True)
        return await self._get_noted(version)

    async def read(self, subscription_id: str) -> StoredSubscription | None:
        """Return a subscription as the bucket has it; None if it does not exist."""
        version = await self._objects.read(subscription_id)
        return version.stored if version is not None else None

    async def get(self, subscription_id: str) -> Subscription:
        """Return a subscription as its caller sees it. Raises Failure SUBSCRIPTION_NOT_FOUND."""
        found = await self.index.get_many([subscription_id])
        if found:
            return _shown(found[0])
        version = await self._objects.read(subscription_id)
        if version is None:
            raise not_found(subscription_id)
        await self._note(version)
        return await self._get_noted(version)

    async def page(
        self, *, limit: int, before: str = "", owner: str = ""
    ) -> Sequence[Subscription]:
        """Return at most `limit` subscriptions, the latest first; of one owner, if given.

        `before` is the last id of the previous page. A page with fewer ids is the last one.
        """
        await self.ensure()
        ids = await self.index.page(limit=limit, before=before, owner=owner)
        return [_shown(each) for each in await self.index.get_many(ids)]

    async def change(
        self,
        subscription_id: str,
        apply: Callable[[StoredSubscription], object],
        *,
        delay: timedelta | None = None,
    ) -> Subscription:
        """Change a subscription, and return it as its caller sees it.

        `apply` changes the message that it gets, and may be called again with a later version; what
        it raises is raised. The next check is due after `delay`; None leaves that as it is. Raises
        Failure SUBSCRIPTION_NOT_FOUND.
        """
        for _ in range(_TRIES):
            version = await self._objects.read(subscription_id)
            if version is None:
                await self.index.remove(subscription_id)
                raise not_found(subscription_id)
            stored = StoredSubscription()
            stored.CopyFrom(version.stored)
            apply(stored)
            if stored != version.stored:
                stored.revision += 1
                written = await self._objects.write(stored, replaces=version.etag)
                if written is None:
                    continue
                version = written
            await self._note(version, delay=delay)
            return await self._get_noted(version)
        raise Failure(
            reason_pb2.REASON_STORAGE_UNAVAILABLE,
            f"The subscription {subscription_id} changes all the time. Call again.",
        )

    async def delete(self, subscription_id: str) -> None:
        """Delete a subscription, if it exists."""
        await self._objects.remove(subscription_id)
        await self.index.remove(subscription_id)

    async def ensure(self) -> None:
        """Note all subscriptions of the bucket, if Redis has lost them."""
        if not await self.index.is_restored():
            await self.restore()

    async def restore(self) -> int:
        """Note what Redis does not have as the bucket has it; return how many that were."""
        stored = await self._objects.etags()
        ids = sorted(stored)
        count = 0
        for begin in range(0, len(ids), _CHUNK):
            chunk = ids[begin : begin + _CHUNK]
            known = await self.index.etags(chunk)
            for each in chunk:
                if known.get(each) != stored[each]:
                    count += await self._renew(each)
        before = ""
        while listed := await self.index.page(limit=_CHUNK, before=before):
            for each in listed:
                if each not in stored:
                    # It may be newer than the list.
                    await self._renew(each)
            before = listed[-1]
        await self.index.mark_restored()
        return count

    async def _renew(self, subscription_id: str) -> bool:
        """Note what the bucket has of a subscription; return whether it has it."""
        version = await self._objects.read(subscription_id)
        if version is None:
            await self.index.remove(subscription_id)
            return False
        await self._note(version)
        return True

    async def _note(
        self,
        version: SubscriptionVersion,
        *,
        delay: timedelta | None = None,
        is_new: bool = False,
    ) -> None:
        stored = version.stored
        interval = stored.subscription.interval.ToTimedelta()
        await self.index.put(
            stored.subscription.id,
            _copied(stored).SerializeToString(),
            revision=stored.revision,
            etag=version.etag,
            owner=stored.owner_key,
            paused=stored.subscription.paused,
            is_new=is_new,
            delay=delay,
            unknown_delay=spread_delay(interval, self._random),
        )
        if delay == NOW:
            self.on_due_now()

    async def _get_noted(self, version: SubscriptionVersion) -> Subscription:
        """Return a version as its caller sees it, or a later one."""
        found = await self.index.get_many([version.stored.subscription.id])
        if not found:
            # It was deleted, or Redis has lost it since.
            content = _copied(version.stored).SerializeToString()
            return _shown(IndexedSubscription(content, Subscription(), None))
        return _shown(found[0])


def not_found(subscription_id: str) -> Failure:
    """Return the failure of a call about a subscription that does not exist."""
    return Failure(
        reason_pb2.REASON_SUBSCRIPTION_NOT_FOUND,
        f"There is no subscription {subscription_id}. It may have been deleted: list those that "
        "there are.",
    )


def _copied(stored: StoredSubscription) -> StoredSubscription:
    """Return what Redis has of a subscription."""
    copied = StoredSubscription()
    copied.CopyFrom(stored)
    copied.ClearField("seen")
    copied.ClearField("media_ids")
    return copied


def _shown(found: IndexedSubscription) -> Subscription:
    """Return a subscription as its caller sees it."""
    subscription = StoredSubscription.FromString(found.content).subscription
    subscription.ClearField("webhook_url")
    for name in _FROM_CHECKS:
        subscription.ClearField(name)
    subscription.MergeFrom(found.status)
    if found.due is not None:
        subscription.next_check_time.FromDatetime(found.due)
    return subscription
