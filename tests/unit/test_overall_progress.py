"""The overall progress of a job and the download after it never decreases."""

from __future__ import annotations

import pytest

from ingot import Job, JobStage, JobState, Media, Recipe, render
from ingot.overall_progress import OverallProgress, converts_one_item
from ingot.v1.job_pb2 import JobProgress

QUEUED, RUNNING, SUCCEEDED = (
    JobState.JOB_STATE_QUEUED,
    JobState.JOB_STATE_RUNNING,
    JobState.JOB_STATE_SUCCEEDED,
)
CONVERTING = JobStage.JOB_STAGE_CONVERTING


def job(state: JobState.ValueType, fraction: float = 0, derived_from_media_id: str = "") -> Job:
    return Job(
        state=state,
        stage=CONVERTING,
        progress=JobProgress(fraction=fraction),
        media=Media(derived_from_media_id=derived_from_media_id),
    )


def test_the_download_gets_the_rest_of_the_bar() -> None:
    overall = OverallProgress(with_download=True)

    seen = [overall.update_job(each) for each in (job(QUEUED), job(RUNNING, 0.5), job(SUCCEEDED))]
    seen += [overall.update_download(done, 10) for done in (0, 5, 10)]

    assert seen == [0, 0.45, 0.9, 0.9, pytest.approx(0.95), 1]


def test_the_download_gets_all_of_the_bar_if_the_result_was_stored() -> None:
    overall = OverallProgress(with_download=True)

    assert overall.update_job(job(SUCCEEDED)) == 0
    assert [overall.update_download(done, 4) for done in (1, 2, 4)] == [0.25, 0.5, 1]


def test_it_ends_at_one_without_a_download() -> None:
    assert OverallProgress(with_download=False).update_job(job(SUCCEEDED)) == 1


@pytest.mark.parametrize("parent", ["", "parent"], ids=["with its ingest", "by itself"])
def test_it_never_decreases(parent: str) -> None:
    overall = OverallProgress(with_download=True)
    states = [
        job(RUNNING, 0.2, parent),
        job(RUNNING, 0.8, parent),
        job(QUEUED, 0, parent),
        job(RUNNING, 0.1, parent),
        job(SUCCEEDED, 1, "parent"),
    ]

    seen = [overall.update_job(each) for each in states]
    # A file that was replaced meanwhile is downloaded again from the beginning.
    seen += [overall.update_download(done, 10) for done in (7, 0, 3, 10)]

    assert seen == sorted(seen)
    assert (seen[0] > 0, seen[-1]) == (True, 1)


def test_each_stage_of_a_conversion_advances() -> None:
    overall = OverallProgress(with_download=False)
    seen = []
    for stage in (CONVERTING, JobStage.JOB_STAGE_STORING, JobStage.JOB_STAGE_COMMITTING):
        for fraction in (0, 1):
            state = job(RUNNING, fraction, "parent")
            state.stage = stage
            seen.append(overall.update_job(state))

    assert seen == sorted(seen)
    assert seen[1] > 0.9


@pytest.mark.parametrize(("playlist", "shown"), [(True, "1 of 3 stored"), (False, "")])
def test_a_list_shows_counts_and_a_conversion_does_not(playlist: bool, shown: str) -> None:
    several = job(RUNNING, 0.5)
    several.recipes.add(format=Recipe.FORMAT_MP3)
    several.options.playlist = playlist
    several.children.total, several.children.succeeded = 3, 1

    assert converts_one_item(several) is not playlist
    assert render.entries(several) == shown
