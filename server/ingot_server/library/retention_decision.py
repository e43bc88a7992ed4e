"""What the rules of retention (retention_rules.py) remove, and why.

Each rule is applied to what the rules before it leave. It sees its media items one by one, created
last first, and keeps no more of them than counters, and with `keep_latest` the publish times of the
latest in each group.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ingot.v1.media_pb2 import Media
from ingot_server.library.manifest_pb2 import IndexEntry
from ingot_server.library.media_index import (
    PINNED,
    MediaFilter,
    create_milliseconds,
    entry_of,
    label_set,
)
from ingot_server.retention_rules import PER_LABEL, Rule


@dataclass(frozen=True, slots=True)
class Item:
    """What rules look at of a media item."""

    entry: IndexEntry
    uploader: str = ""
    """Empty if the source does not say, or if only the index was read."""
    publish_milliseconds: int = 0
    """When it was published, or created if that is unknown, since 1970; zero if only the index was
    read."""

    @property
    def is_pinned(self) -> bool:
        """Whether no rule removes it."""
        return PINNED in self.entry.sets


def item_of(media: Media) -> Item:
    """Return a media item as rules see it."""
    published = media.publish_time if media.HasField("publish_time") else media.create_time
    return Item(entry_of(media), media.uploader, published.ToMilliseconds())


class Decision:
    """What one rule removes at the moment `now`.

    First `survey` all media items, if the rule compares them, and then `decide` each, both in the
    order of their create times, the latest first. Afterwards `limit` tells the same again.
    """

    def __init__(self, rule: Rule, now: datetime, *, bytes_over: int = 0) -> None:
        """`bytes_over` is how many bytes must go so that its `min_free` holds."""
        self.rule = rule
        self.compares = bool(rule.max_bytes or rule.min_free or rule.keep_latest)
        """Whether the rule compares media items with others."""
        self.needs_manifests = bool(rule.match.uploader or rule.keep_latest)
        """Whether the rule looks at more than the index has."""
        match = rule.match
        self.index_filter = MediaFilter(
            owner=match.owner,
            source=match.source,
            kind=match.kind,
            labels=match.labels,
            # Those that were created later cannot be too old.
            created_before=now - rule.max_age if rule.max_age and not self.compares else None,
        )
        """What the index finds for the rule: all that matches, and perhaps more."""
        self._sets = frozenset(self.index_filter.sets())
        self._oldest = (now - rule.max_age).timestamp() * 1000 if rule.max_age else 0.0
        self._bytes_over = bytes_over
        self._pinned_bytes = 0
        self._other_bytes = 0
        self._bytes_left = math.inf
        self._bytes_limit = ""
        self._cut = ""
        self._latest: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def may_match(self, entry: IndexEntry) -> bool:
        """Tell whether the rule is about a media item, as far as the index says."""
        if not self._sets.issubset(entry.sets):
            return False
        derived = self.rule.match.derived
        return derived is None or derived == any(name.startswith("derived:") for name in entry.sets)

    def survey(self, item: Item) -> None:
        """Count a media item that the rules before leave."""
        group = self._group_of(item)
        if group is None:
            return
        if item.is_pinned:
            self._pinned_bytes += item.entry.size_bytes
            return
        self._other_bytes += item.entry.size_bytes
        if self.rule.keep_latest:
            latest = self._latest[group]
            heapq.heappush(latest, _publish_order(item))
            if len(latest) > self.rule.keep_latest:
                heapq.heappop(latest)

    def end_survey(self, removed_bytes: int) -> None:
        """Conclude how many bytes may stay, when the rules before remove `removed_bytes`."""
        if self.rule.max_bytes:
            self._bytes_left = self.rule.max_bytes - self._pinned_bytes
            self._bytes_limit = "max_bytes"
        over = self._bytes_over - removed_bytes
        if over > 0 and self._other_bytes - over < self._bytes_left:
            self._bytes_left = self._other_bytes - over
            self._bytes_limit = "min_free"

    def decide(self, item: Item) -> str:
        """Return the limit that the media item is past, such as `max_age`; empty if it stays."""
        limit = self.limit(item)
        counts = not (limit or item.is_pinned or self._group_of(item) is None)
        if counts and self._bytes_limit:
            self._bytes_left -= item.entry.size_bytes
            if self._bytes_left < 0:
                # All that were created before are past the limit, too, also smaller ones.
                self._cut = item.entry.member
                return self._bytes_limit
        return limit

    def limit(self, item: Item) -> str:
        """Return the limit that the media item is past, as it was decided; empty if it stays."""
        group = self._group_of(item)
        if group is None or item.is_pinned:
            return ""
        if create_milliseconds(item.entry) < self._oldest:
            return "max_age"
        latest = self._latest.get(group, [])
        if self.rule.keep_latest == len(latest) > 0 and _publish_order(item) < latest[0]:
            return "keep_latest"
        return self._bytes_limit if item.entry.member <= self._cut else ""

    def _group_of(self, item: Item) -> str | None:
        """Return which list of the rule the media item is in; None if it does not match."""
        uploader, per = self.rule.match.uploader, self.rule.per
        if uploader not in ("", item.uploader) or not self.may_match(item.entry):
            return None
        if not per:
            return ""
        if per == "uploader":
            return item.uploader or None
        is_label = per.startswith(PER_LABEL)
        begin = label_set((per.removeprefix(PER_LABEL), "")) if is_label else f"{per}:"
        return next((name for name in item.entry.sets if name.startswith(begin)), None)


Items = Callable[[Decision, Sequence[Decision]], AsyncIterator[Item]]
"""Yields what the index finds for a rule, created last first. What that rule, or one of the rules
before, needs the manifests of is made of these."""


async def decide(
    decisions: Sequence[Decision], items: Items
) -> AsyncIterator[tuple[Item, Decision]]:
    """Yield each media item that is past a rule, once, with the first such rule.

    It costs one pass over the media items of a rule, and two if the rule compares them.
    """
    removed_bytes = 0
    for number, decision in enumerate(decisions):
        before = decisions[:number]
        if decision.compares:
            async for item in items(decision, before):
                if not any(each.limit(item) for each in before):
                    decision.survey(item)
            decision.end_survey(removed_bytes)
        async for item in items(decision, before):
            if not any(each.limit(item) for each in before) and decision.decide(item):
                removed_bytes += item.entry.size_bytes
                yield item, decision


def _publish_order(item: Item) -> tuple[int, str]:
    return item.publish_milliseconds, item.entry.media_id
