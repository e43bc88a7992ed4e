"""Which entries of a list are new for a subscription, and when it is checked."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from ingot.v1.ingest_service_pb2 import ListEntry, ResolveResponse
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.subscription_pb2 import Subscription
from ingot_server.following import new_entries
from ingot_server.following.new_entries import KEY_BYTES, entry_key, find_new, known_keys, remember
from ingot_server.following.schedule import next_delay, retry_delay, spread_delay
from ingot_server.library.manifest_pb2 import StoredSubscription

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
CUTOFF = datetime(2026, 11, 1, tzinfo=UTC)
RECORDING = IngestOptions()
RECORDING.record_duration.FromTimedelta(HOUR)


def listed(
    name: str = "a",
    title: str = "",
    published: datetime | None = None,
    kind: ResolveResponse.Kind.ValueType = ResolveResponse.KIND_UNSPECIFIED,
) -> ListEntry:
    entry = ListEntry(url=f"https://example.com/{name}.mp4", title=title, kind=kind)
    if published is not None:
        entry.publish_time.FromDatetime(published)
    return entry


def stored(*known: str, was_checked: bool = True, **fields: object) -> StoredSubscription:
    return StoredSubscription(
        subscription=Subscription(**fields),  # type: ignore[arg-type]
        was_checked=was_checked,
        seen=b"".join(entry_key(listed(name).url) for name in known),
    )


def names(subscription: StoredSubscription, *found: ListEntry) -> str:
    """The entries that become jobs, as letters."""
    new = find_new(subscription, found).new
    return "".join(entry.listed.url.rpartition("/")[2][0] for entry in new)


@pytest.mark.parametrize(
    ("include", "exclude", "title", "accepted"),
    [
        ([], [], "Anything", True),
        ([], [], "", True),
        (["bells"], [], "On BELLS", True),
        (["bells"], [], "On organs", False),
        (["bells"], [], "", False),
        (["bells", "organ"], [], "On organs", True),
        ([], ["trailer"], "The Trailer", False),
        ([], ["trailer"], "The film", True),
        (["bells"], ["trailer"], "Bells: a trailer", False),
        (["STRASSE"], [], "Die Straße", True),
        ([".*"], [], "On bells", False),
        (["(a+)+$"], [], "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!", False),
    ],
)
def test_titles_are_filtered_by_texts(
    include: list[str], exclude: list[str], title: str, accepted: bool
) -> None:
    subscription = stored(include_titles=include, exclude_titles=exclude)
    assert (names(subscription, listed(title=title)) == "a") is accepted


@pytest.mark.parametrize(
    ("published", "was_checked", "new", "skipped"),
    [
        (CUTOFF - timedelta(seconds=1), True, False, False),
        (CUTOFF, True, True, False),
        (CUTOFF + DAY, False, True, False),
        (None, True, True, False),
        (None, False, False, True),
    ],
)
def test_the_cutoff_counts_where_the_list_says_when(
    published: datetime | None, was_checked: bool, new: bool, skipped: bool
) -> None:
    subscription = stored(was_checked=was_checked, published_after=CUTOFF)
    found = find_new(subscription, [listed(published=published)])
    assert (bool(found.new), bool(found.skipped)) == (new, skipped)


@pytest.mark.parametrize(
    ("kind", "options", "accepted"),
    [
        (ResolveResponse.KIND_UPCOMING, None, False),
        (ResolveResponse.KIND_UPCOMING, RECORDING, False),
        (ResolveResponse.KIND_LIVE, None, False),
        (ResolveResponse.KIND_LIVE, RECORDING, True),
    ],
)
def test_what_is_not_there_yet_waits_for_another_check(
    kind: ResolveResponse.Kind.ValueType, options: IngestOptions | None, accepted: bool
) -> None:
    subscription = stored(options=options)
    found = find_new(subscription, [listed(kind=kind)])
    assert bool(found.new) is accepted
    assert not found.skipped


def test_known_entries_and_other_spellings_of_them_are_not_new() -> None:
    again = listed("b")
    again.url = "HTTPS://EXAMPLE.COM:443/b.mp4#part"
    assert names(stored("a"), listed("a"), listed("b"), again, listed("c")) == "bc"


def test_marking_all_as_seen_makes_no_jobs() -> None:
    subscription = stored("a", include_titles=["bells"])
    subscription.mark_time.GetCurrentTime()
    upcoming = listed("c", kind=ResolveResponse.KIND_UPCOMING)
    found = find_new(subscription, [listed("a"), listed("b"), upcoming])
    assert not found.new
    remember(subscription, found, [])
    subscription.ClearField("mark_time")
    assert names(subscription, listed("a"), listed("b"), listed("c")) == ""


def test_an_entry_without_its_job_is_new_again() -> None:
    subscription = stored()
    found = find_new(subscription, [listed("a"), listed("b")])
    remember(subscription, found, found.new[:1])
    assert subscription.subscription.job_count == subscription.subscription.seen_count == 1
    assert names(subscription, listed("a"), listed("b")) == "b"


def test_what_left_the_list_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_entries, "MOST_SEEN", 3)
    subscription = stored()
    for present in ("ba", "cb", "dc", "dcb"):
        found = find_new(subscription, [listed(name) for name in present])
        remember(subscription, found, found.new)
    assert len(subscription.seen) == 3 * KEY_BYTES
    assert set(known_keys(subscription)) == {entry_key(listed(name).url) for name in "bcd"}


def test_checks_spread_around_the_interval() -> None:
    generator = random.Random(1)
    delays = {next_delay(HOUR, generator) for _ in range(1000)}
    assert min(delays) >= HOUR * 0.9
    assert max(delays) <= HOUR * 1.1
    assert max(delays) - min(delays) > HOUR * 0.19


@pytest.mark.parametrize(
    ("interval", "failures", "retry_after", "around"),
    [
        (HOUR, 1, timedelta(0), timedelta(minutes=10)),
        (HOUR, 2, timedelta(0), timedelta(minutes=20)),
        (HOUR, 5, timedelta(0), timedelta(minutes=160)),
        (HOUR, 9, timedelta(0), DAY),
        (HOUR, 10**6, timedelta(0), DAY),
        (7 * DAY, 20, timedelta(0), 7 * DAY),
        (timedelta(minutes=5), 1, timedelta(0), timedelta(minutes=5)),
    ],
)
def test_failures_delay_the_next_check_more_and_more(
    interval: timedelta, failures: int, retry_after: timedelta, around: timedelta
) -> None:
    generator = random.Random(1)
    for _ in range(100):
        delay = retry_delay(interval, failures, retry_after, generator)
        assert around * 0.9 <= delay <= around * 1.1


def test_a_source_may_ask_for_a_longer_delay() -> None:
    assert retry_delay(HOUR, 1, 3 * HOUR, random.Random(1)) == 3 * HOUR


def test_lost_schedules_are_spread() -> None:
    generator = random.Random(1)
    delays = [spread_delay(DAY, generator) for _ in range(100)]
    assert timedelta(0) <= min(delays) < timedelta(minutes=1)
    assert timedelta(minutes=9) < max(delays) <= timedelta(minutes=10)
