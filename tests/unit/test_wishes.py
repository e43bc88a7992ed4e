"""What callers that share a job see of it, and what each of them changes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.scope_pb2 import Scope
from ingot_server.api.caller import Caller
from ingot_server.api.seen_jobs import seen_by, seen_labels
from ingot_server.jobs.wishes import MOST_CALLERS, joined, replaced, with_priority

LOW, NORMAL, HIGH = (
    job_pb2.JOB_PRIORITY_LOW,
    job_pb2.JOB_PRIORITY_NORMAL,
    job_pb2.JOB_PRIORITY_HIGH,
)
READS = frozenset({Scope.SCOPE_READ})


def job(**fields: object) -> Job:
    made = Job(state=job_pb2.JOB_STATE_QUEUED, priority=NORMAL, requested_by="news")
    made.MergeFrom(Job(**fields))  # type: ignore[arg-type]
    return made


def request(caller: str, labels: Mapping[str, str], priority: int = 0) -> Job:
    return Job(requested_by=caller, labels=labels, priority=job_pb2.JobPriority.ValueType(priority))


def shared() -> Job:
    found = joined(job(labels={"team": "news"}), request("archive", {"box": "7"}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("caller", "expected", "others"),
    [
        (Caller("", "news", READS), {"team": "news"}, 0),
        (Caller("", "archive", READS), {"box": "7"}, 0),
        (Caller("", "stranger", READS), {}, 0),
        (Caller("", "", READS), {}, 0),
        (Caller("", "root"), {"team": "news"}, 1),
        (Caller("", "archive"), {"box": "7"}, 1),
    ],
)
def test_each_caller_sees_its_own_labels(
    caller: Caller, expected: Mapping[str, str], others: int
) -> None:
    seen = seen_by(caller, shared())
    assert (seen.labels, len(seen.labels_of_others)) == (expected, others)
    assert seen_labels(shared(), caller) == expected


def test_a_job_without_a_secret_is_not_copied() -> None:
    for each in (job(), job(labels={"team": "news"})):
        assert seen_by(Caller("", "news", READS), each) is each


def test_the_first_labels_of_a_caller_count() -> None:
    once = shared()
    assert joined(once, request("archive", {"box": "8"})) is None
    assert joined(once, request("news", {"team": "other"})) is None
    assert joined(once, request("", {"team": "other"})) is None
    assert joined(once, request("radio", {})) is None


def test_a_job_keeps_the_labels_of_so_many_callers_and_of_no_more() -> None:
    found = job()
    for number in range(MOST_CALLERS):
        more = joined(found, request(f"caller{number}", {"a": "b"}))
        assert more is not None
        found = more
    assert len(found.labels_of_others) == MOST_CALLERS
    assert joined(found, request("one more", {"a": "b"})) is None


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (LOW, 0, NORMAL),
        (NORMAL, HIGH, HIGH),
        (NORMAL, 0, None),
        (NORMAL, LOW, None),
        (HIGH, NORMAL, None),
    ],
)
def test_a_caller_raises_the_priority_and_does_not_lower_it(
    before: int, asked: int, after: int | None
) -> None:
    found = joined(
        job(priority=job_pb2.JobPriority.ValueType(before)), request("archive", {}, asked)
    )
    assert (found.priority if found is not None else None) == after


def test_nothing_changes_a_job_that_has_ended() -> None:
    ended = job(state=job_pb2.JOB_STATE_SUCCEEDED)
    assert joined(ended, request("archive", {"box": "7"}, HIGH)) is None
    assert with_priority(ended, HIGH) is None


def test_a_worker_does_not_take_back_what_callers_have_changed() -> None:
    before = job(labels={"team": "news"})
    stored = joined(before, request("archive", {"box": "7"}, HIGH))
    assert stored is not None
    before.stage = job_pb2.JOB_STAGE_PROBING

    written = replaced(stored, before)

    stored.stage = job_pb2.JOB_STAGE_PROBING
    assert written == stored
