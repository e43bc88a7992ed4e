"""What `ingot top` draws, on terminals of different sizes."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from ingot.live_jobs import LiveJobs
from ingot.top_screen import TopScreen, share_rows
from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job, JobStage, JobState, JobWaiting
from ingot_server.errors import Failure

NOW = datetime(2026, 3, 1, 12, 3).astimezone(UTC)
HOSTILE = "[red]\x1b[2J\x1b]0;owned\x07\u202ereversed\N{ZERO WIDTH SPACE}<b>\n\r" + "long " * 2000


def make_jobs(count: int = 2, title: str = "Clip") -> LiveJobs:
    """Make `count` jobs of each sort."""
    jobs = LiveJobs()
    for number in range(count):
        running = Job(
            id=f"r{number}",
            display_name=f"{title} {number}",
            state=JobState.JOB_STATE_RUNNING,
            stage=JobStage.JOB_STAGE_DOWNLOADING,
        )
        running.progress.fraction = 0.5
        running.progress.stage.bytes_per_second = 1_500_000
        running.progress.stage.eta.FromSeconds(90)
        waiting = Job(id=f"q{number}", display_name=title, state=JobState.JOB_STATE_QUEUED)
        waiting.waiting.cause = JobWaiting.CAUSE_SOURCE_RATE_LIMIT
        waiting.waiting.source = "youtube"
        waiting.waiting.jobs_ahead = number + 1
        failure = Failure(reason_pb2.REASON_NOT_MEDIA, f"A page of {title}.")
        failed = Job(
            id=f"f{number}",
            display_name=title,
            state=JobState.JOB_STATE_FAILED,
            error=failure.status(),
        )
        failed.end_time.FromDatetime(NOW)
        for job in (running, waiting, failed):
            jobs.update(job)
    return jobs


def drawn(screen: TopScreen, width: int = 100, height: int = 40) -> str:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )
    with console.capture() as capture:
        console.print(screen)
    return capture.get()


def test_the_screen_has_counts_rate_bars_causes_and_reasons() -> None:
    text = drawn(TopScreen(make_jobs(), "localhost:50051", NOW))
    lines = [line.split() for line in text.splitlines()]

    assert "2 running  2 queued  0 succeeded  2 failed  0 cancelled   3 MB/s" in text
    assert lines[4][:3] == ["downloading", "━" * 10, "50%"]
    assert "1.5 MB/s, 1:30 left" in text
    assert "waits for youtube, 2 jobs ahead" in text
    assert "12:03:00  failed  Clip  [NOT_MEDIA] A page of Clip." in text


@pytest.mark.parametrize("width", [20, 40, 69, 70, 200])
@pytest.mark.parametrize("height", [5, 10, 24])
def test_the_screen_fits_the_terminal(width: int, height: int) -> None:
    text = drawn(TopScreen(make_jobs(50), "localhost:50051", NOW, NOW), width, height)
    lines = text.splitlines()

    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 6), "three lines above, and one section with one row"


def test_a_section_says_how_much_of_it_is_not_shown() -> None:
    text = drawn(TopScreen(make_jobs(50), "localhost:50051", NOW), height=23)
    assert text.count("(5 of 50)") == 3


def test_the_screen_says_since_when_it_is_out_of_date() -> None:
    text = drawn(TopScreen(make_jobs(), "localhost:50051", NOW, NOW))
    assert "Not up to date since 12:03:00" in text


def test_without_jobs_the_screen_says_how_to_start_one() -> None:
    assert "ingot ingest URL" in drawn(TopScreen(LiveJobs(), "localhost:50051", NOW))


def test_hostile_titles_stay_text() -> None:
    text = drawn(TopScreen(make_jobs(title=HOSTILE), "localhost:50051", NOW), width=200)

    assert not set("\x1b\x07\r\u202e\N{ZERO WIDTH SPACE}") & set(text)
    assert "[red]" in text, "it is not read as markup"
    assert max(map(len, text.splitlines())) <= 200


@pytest.mark.parametrize(
    ("available", "wanted", "shares"),
    [
        (30, [3, 4, 5], [3, 4, 5]),
        (12, [50, 50, 50], [4, 4, 4]),
        (12, [50, 1, 50], [6, 1, 5]),
        (-3, [1], [0]),
    ],
)
def test_rows_are_shared_among_sections(
    available: int, wanted: list[int], shares: list[int]
) -> None:
    assert share_rows(available, wanted) == shares
