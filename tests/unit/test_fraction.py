"""The fraction of a job: from 0 to 1, forward only, and 1 for what has succeeded alone."""

from __future__ import annotations

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import ChildSummary, Job, StageProgress
from ingot.v1.media_pb2 import Extraction, Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.jobs import fraction, lifecycle
from ingot_server.jobs.lifecycle import with_fraction

INGEST = (
    job_pb2.JOB_STAGE_RESOLVING,
    job_pb2.JOB_STAGE_DOWNLOADING,
    job_pb2.JOB_STAGE_PROBING,
    job_pb2.JOB_STAGE_STORING,
    job_pb2.JOB_STAGE_COMMITTING,
)
CONVERSION = (
    job_pb2.JOB_STAGE_CONVERTING,
    job_pb2.JOB_STAGE_STORING,
    job_pb2.JOB_STAGE_COMMITTING,
)
MADE = Media(derived_from_media_id="parent")
RECIPES = [Recipe(mp3=Recipe.Mp3())]


def running(stage: job_pb2.JobStage.ValueType, **progress: float) -> Job:
    job = Job(kind=job_pb2.JOB_KIND_INGEST, state=job_pb2.JOB_STATE_RUNNING, stage=stage)
    job.progress.stage.CopyFrom(StageProgress(**progress))  # type: ignore[arg-type]
    return job


def fraction_of(job: Job, before: Job | None = None) -> float:
    return with_fraction(job, before or Job()).progress.fraction


@pytest.mark.parametrize(
    ("kind", "stages"),
    [(fraction.FILE, INGEST), (fraction.EXTRACTION, INGEST), (fraction.CONVERSION, CONVERSION)],
)
def test_the_stages_follow_each_other_from_0_to_1(
    kind: fraction.Stages, stages: tuple[job_pb2.JobStage.ValueType, ...]
) -> None:
    assert tuple(kind.ranges) == stages
    begins, ends = zip(*kind.ranges.values(), strict=True)
    assert begins[0] == 0
    assert begins[1:] == ends[:-1]
    assert ends[-1] == pytest.approx(1)
    assert all(begin < end for begin, end in kind.ranges.values())


def test_a_claimed_job_has_progress_and_a_stage_at_once() -> None:
    conversion = Job(kind=job_pb2.JOB_KIND_CONVERT, media=MADE, recipes=RECIPES)
    for job, stage in (
        (Job(kind=job_pb2.JOB_KIND_INGEST), job_pb2.JOB_STAGE_RESOLVING),
        (conversion, job_pb2.JOB_STAGE_CONVERTING),
    ):
        job.state = job_pb2.JOB_STATE_QUEUED
        claimed = lifecycle.claimed(job)
        assert claimed is not None
        claimed = with_fraction(claimed, job)
        assert claimed.HasField("progress")
        assert (claimed.stage, claimed.progress.fraction) == (stage, 0)


def test_it_grows_with_the_share_of_the_stage() -> None:
    done = [
        fraction_of(running(job_pb2.JOB_STAGE_DOWNLOADING, fraction=share))
        for share in (0, 0.5, 1, 1.5)
    ]
    assert done[0] < done[1] < done[2] == done[3]
    assert done[3] == fraction_of(running(job_pb2.JOB_STAGE_PROBING))


def test_a_download_of_unknown_size_moves_on_and_never_reaches_the_next_stage() -> None:
    sizes = (0, 1 << 20, 1 << 30, 1 << 45)
    done = [fraction_of(running(job_pb2.JOB_STAGE_DOWNLOADING, bytes_done=size)) for size in sizes]
    assert done == sorted(set(done))
    assert done[-1] < fraction_of(running(job_pb2.JOB_STAGE_PROBING))


def test_what_was_extracted_leaves_more_to_storing() -> None:
    job = running(job_pb2.JOB_STAGE_STORING)
    file = fraction_of(job)
    job.extraction.CopyFrom(Extraction(extractor="Generic"))
    assert fraction_of(job) < file


def test_it_does_not_go_back_when_a_stage_begins_again() -> None:
    before = with_fraction(running(job_pb2.JOB_STAGE_DOWNLOADING, fraction=0.8), Job())
    for again in (
        running(job_pb2.JOB_STAGE_DOWNLOADING, fraction=0.1),
        running(job_pb2.JOB_STAGE_RESOLVING),
    ):
        assert fraction_of(again, before) == before.progress.fraction


def test_a_new_attempt_starts_at_0() -> None:
    before = with_fraction(running(job_pb2.JOB_STAGE_DOWNLOADING, fraction=0.8), Job())
    released = with_fraction(lifecycle.released(before), before)
    assert not released.HasField("progress")
    claimed = lifecycle.claimed(released)
    assert claimed is not None
    assert fraction_of(claimed, released) == 0


def test_a_job_with_conversions_goes_on_where_its_last_attempt_was() -> None:
    before = running(job_pb2.JOB_STAGE_DOWNLOADING)
    before.kind = job_pb2.JOB_KIND_INGEST_AND_CONVERT
    before.progress.fraction = 0.4
    released = with_fraction(lifecycle.released(before), before)
    claimed = lifecycle.claimed(released)
    assert claimed is not None
    assert fraction_of(claimed, released) == 0.4


def test_a_job_that_has_succeeded_is_done_also_if_it_was_cached() -> None:
    assert fraction_of(Job(state=job_pb2.JOB_STATE_SUCCEEDED, cached=True)) == 1


@pytest.mark.parametrize("state", [job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED])
def test_a_job_that_ends_otherwise_keeps_what_it_had(state: job_pb2.JobState.ValueType) -> None:
    before = running(job_pb2.JOB_STAGE_DOWNLOADING)
    before.children.CopyFrom(ChildSummary(total=2, failed=1))
    before.progress.fraction = 0.5
    ended = lifecycle.copy_of(before)
    ended.state, ended.progress.fraction = state, 1
    assert fraction_of(ended, before) == 0.5
    assert not with_fraction(Job(state=state), Job()).HasField("progress")


def test_a_list_is_done_as_its_entries_are() -> None:
    assert fraction.list_fraction(1, 0.5, 3) == 0.5
    assert fraction.list_fraction(0, 0, 0) == 0


@pytest.mark.parametrize("count", [1, 2, 16])
def test_a_job_with_conversions_is_done_when_all_its_parts_are(count: int) -> None:
    ingested = fraction.workflow_fraction(1, 0, count=count)
    assert 0 < ingested < 1
    assert fraction.workflow_fraction(0.5, 0, count=count) == pytest.approx(ingested / 2)
    assert fraction.workflow_fraction(1, count, count=count) == 1
