"""What rules remove of a list of media items at a given moment, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ingot.v1.media_pb2 import Media, MediaKind
from ingot_server.library.retention_decision import Decision, Item, decide, item_of
from ingot_server.retention_rules import Match, Rule

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def media(
    name: str,
    *,
    age: float,
    size: int = 10,
    published: float | None = None,
    labels: dict[str, str] | None = None,
    kind: str = "video/mp4",
    **fields: object,
) -> Media:
    """A media item, `age` days old and published `published` days ago."""
    made = Media(id=name, labels=labels or {}, **fields)  # type: ignore[arg-type]
    made.source.name = "http"
    made.blob.size_bytes = size
    made.blob.content_type = kind
    made.create_time.FromDatetime(NOW - age * DAY)
    if published is not None:
        made.publish_time.FromDatetime(NOW - published * DAY)
    return made


async def removed(stored: Sequence[Media], *rules: Rule) -> dict[str, str]:
    """What the rules remove, each media item with the rule and the limit, when the disk is full."""
    newest_first = sorted(map(item_of, stored), key=lambda each: each.entry.member, reverse=True)

    async def items(decision: Decision, before: Sequence[Decision]) -> AsyncIterator[Item]:
        before_time = decision.index_filter.created_before or NOW + DAY
        for item in newest_first:
            created = int(item.entry.member[:14])
            if decision.may_match(item.entry) and created < before_time.timestamp() * 1000:
                yield item

    decisions = [Decision(rule, NOW, bytes_over=rule.min_free) for rule in rules]
    return {
        item.entry.media_id: f"{decision.rule.name} {decision.limit(item)}"
        async for item, decision in decide(decisions, items)
    }


NEWS = {"show": "news"}

CASES: list[tuple[str, list[Media], list[Rule], dict[str, str]]] = [
    (
        "older than max_age, and not a second younger",
        [media("old", age=7.001), media("young", age=6.999), media("new", age=0)],
        [Rule("a", max_age=7 * DAY)],
        {"old": "a max_age"},
    ),
    (
        "the oldest beyond max_bytes, also if a smaller one would fit",
        [media("1", age=1, size=60), media("2", age=2, size=50), media("3", age=3, size=1)],
        [Rule("a", max_bytes=100)],
        {"2": "a max_bytes", "3": "a max_bytes"},
    ),
    (
        "nothing at max_bytes exactly",
        [media("1", age=1, size=60), media("2", age=2, size=40)],
        [Rule("a", max_bytes=100)],
        {},
    ),
    (
        "pinned bytes count, and stay",
        [
            media("1", age=1, size=60),
            media("2", age=2, size=40),
            media("3", age=3, size=40, pinned=True),
        ],
        [Rule("a", max_bytes=100)],
        {"2": "a max_bytes"},
    ),
    (
        "pinned past every limit stay, and are not one of the latest",
        [media("1", age=1, pinned=True), media("2", age=2), media("3", age=3)],
        [Rule("a", keep_latest=1, max_age=2.5 * DAY)],
        {"3": "a max_age"},
    ),
    (
        "the latest are those that were published last, else stored last",
        [
            media("1", age=1, published=30),
            media("2", age=2, published=20),
            media("3", age=3, published=10),
            media("4", age=15),
        ],
        [Rule("a", keep_latest=2)],
        {"1": "a keep_latest", "2": "a keep_latest"},
    ),
    (
        "the latest of each list, and what is in no list stays",
        [
            media("1", age=1, labels={"show": "a"}),
            media("2", age=2, labels={"show": "b"}),
            media("3", age=3, labels={"show": "a"}),
            media("4", age=4),
        ],
        [Rule("a", keep_latest=1, per="label:show")],
        {"3": "a keep_latest"},
    ),
    (
        "the latest of each uploader",
        [
            media("1", age=1, uploader="Ada"),
            media("2", age=2, uploader="Ada"),
            media("3", age=3, uploader="Bob"),
            media("4", age=4),
            media("5", age=5),
        ],
        [Rule("a", keep_latest=1, per="uploader")],
        {"2": "a keep_latest"},
    ),
    (
        "the latest of each owner",
        [
            media(f"{age}", age=age, owner=owner)
            for age, owner in enumerate(["ci", "ci", "dev", ""])
        ],
        [Rule("a", keep_latest=1, per="owner")],
        {"1": "a keep_latest"},
    ),
    (
        "only what matches is compared",
        [
            media("1", age=1),
            media("2", age=2, labels=NEWS, uploader="Ada"),
            media("3", age=3, labels=NEWS, uploader="Bob"),
            media("4", age=4, labels=NEWS, uploader="Ada"),
        ],
        [Rule("a", Match(labels=NEWS, uploader="Ada"), keep_latest=1)],
        {"4": "a keep_latest"},
    ),
    (
        "every part of the match narrows it",
        [
            media("all", age=9, labels=NEWS, owner="ci"),
            media("label", age=9, owner="ci"),
            media("owner", age=9, labels=NEWS),
            media("derived", age=9, labels=NEWS, owner="ci", derived_from_media_id="x"),
            media("image", age=9, labels=NEWS, owner="ci", kind="image/png"),
        ],
        [
            Rule(
                "a",
                Match(
                    labels=NEWS,
                    owner="ci",
                    source="http",
                    derived=False,
                    kind=MediaKind.MEDIA_KIND_OTHER,
                ),
                max_age=DAY,
            )
        ],
        {"all": "a max_age"},
    ),
    (
        "converted media goes by itself",
        [media("parent", age=9), media("made", age=9, derived_from_media_id="parent")],
        [Rule("a", Match(derived=True), max_age=DAY)],
        {"made": "a max_age"},
    ),
    (
        "a rule sees only what those before it leave",
        [
            media("1", age=1, size=60, labels={"tmp": ""}),
            media("2", age=2, size=60),
            media("3", age=3, size=40),
            media("4", age=4, size=40),
        ],
        [
            Rule("tmp", Match(labels={"tmp": ""}), max_age=timedelta(hours=1)),
            Rule("disk", max_bytes=100),
        ],
        {"1": "tmp max_age", "4": "disk max_bytes"},
    ),
    (
        "the oldest until enough is free, of what the rule is about",
        [
            media("1", age=1, size=60, labels=NEWS),
            media("2", age=2, size=60, labels=NEWS, pinned=True),
            media("3", age=3, size=60, labels=NEWS),
            media("4", age=4, size=60, labels=NEWS),
            media("5", age=5, size=60),
        ],
        [Rule("a", Match(labels=NEWS), min_free=61)],
        {"3": "a min_free", "4": "a min_free"},
    ),
    (
        "nothing if the rules before free enough",
        [media("1", age=1, size=60), media("2", age=2, size=60)],
        [Rule("old", max_age=1.5 * DAY), Rule("disk", min_free=60)],
        {"2": "old max_age"},
    ),
    (
        "what one limit of a rule removes does not count for another",
        [
            media("1", age=1, size=50, published=9),
            media("2", age=2, size=50, published=2),
            media("3", age=3, size=50, published=3),
        ],
        [Rule("a", keep_latest=2, max_bytes=100)],
        {"1": "a keep_latest"},
    ),
]


@pytest.mark.parametrize(
    ("stored", "rules", "expected"), [each[1:] for each in CASES], ids=[each[0] for each in CASES]
)
async def test_rules_remove(
    stored: list[Media], rules: list[Rule], expected: dict[str, str]
) -> None:
    assert await removed(stored, *rules) == expected
