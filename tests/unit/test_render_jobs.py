"""What the command line says about a job that waits."""

from __future__ import annotations

from datetime import datetime

import pytest

from ingot import render
from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import JobWaiting


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (JobWaiting(), ""),
        (JobWaiting(cause=JobWaiting.CAUSE_WORKER), ""),
        (JobWaiting(cause=JobWaiting.CAUSE_RETRY), "waits for its next attempt"),
        (
            JobWaiting(cause=JobWaiting.CAUSE_QUOTA),
            "waits for the next day, because you have received enough today",
        ),
        (
            JobWaiting(cause=JobWaiting.CAUSE_CALLER_LIMIT),
            "waits for another one of your jobs",
        ),
        (
            JobWaiting(cause=JobWaiting.CAUSE_HOST_LIMIT, host="example.com", jobs_ahead=3),
            "waits for example.com, 3 jobs ahead",
        ),
        (
            JobWaiting(cause=JobWaiting.CAUSE_SOURCE_RATE_LIMIT, source="youtube", jobs_ahead=1),
            "waits for youtube, 1 job ahead",
        ),
        (
            JobWaiting(
                cause=JobWaiting.CAUSE_SOURCE_BLOCKED,
                source="youtube",
                reason=reason_pb2.REASON_BOT_CHECK,
            ),
            "waits for youtube, which refuses the server (bot check)",
        ),
    ],
)
def test_waiting_is_said_in_one_sentence(waiting: JobWaiting, words: str) -> None:
    assert render.waiting(waiting) == words


def test_a_known_end_is_a_time_of_this_place() -> None:
    waiting = JobWaiting(cause=JobWaiting.CAUSE_RETRY)
    waiting.end_time.FromDatetime(datetime(2026, 3, 1, 12, 3).astimezone())
    assert render.waiting(waiting) == "waits for its next attempt, until 12:03:00"


def test_every_cause_has_its_words() -> None:
    plain = {JobWaiting.CAUSE_UNSPECIFIED, JobWaiting.CAUSE_WORKER}
    for cause in set(JobWaiting.Cause.values()) - plain:
        assert render.waiting(JobWaiting(cause=cause)).startswith("waits for ")
