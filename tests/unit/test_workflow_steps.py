"""How a job with conversions stands and ends: the sum of its parts, and never a step back."""

from __future__ import annotations

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.jobs import lifecycle
from ingot_server.jobs.lifecycle import ChildCounts

RECIPES = [Recipe(mp3=Recipe.Mp3()), Recipe(wav=Recipe.Wav())]
SOURCE = Media(id="source")
MADE = [
    Media(id="mp3", derived_from_media_id="source"),
    Media(id="wav", derived_from_media_id="source"),
]
BROKEN = Failure(reason_pb2.REASON_CONVERSION_FAILED, "ffmpeg says no.").status()


def workflow() -> Job:
    return Job(
        kind=job_pb2.JOB_KIND_INGEST_AND_CONVERT, state=job_pb2.JOB_STATE_RUNNING, recipes=RECIPES
    )


def counts(
    *, total: int = 3, succeeded: int, failed: int = 0, fractions: float = 0.0
) -> ChildCounts:
    return ChildCounts(
        total=total,
        succeeded=succeeded,
        failed=failed,
        cancelled=0,
        cached=0,
        bytes_done=0,
        bytes_per_second=0,
        fractions=fractions,
    )


def parts(*media: Media) -> list[Job]:
    return [Job(state=job_pb2.JOB_STATE_SUCCEEDED, media=each) for each in media]


def test_it_ends_with_all_that_was_made_in_the_order_of_the_recipes() -> None:
    ended = lifecycle.rolled_up(workflow(), counts(succeeded=3), parts(SOURCE, *MADE))
    assert ended is not None
    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED
    assert (ended.media.id, [each.id for each in ended.conversions]) == ("source", ["mp3", "wav"])
    assert ended.progress.fraction == 1


def test_a_conversion_of_a_url_ends_with_the_media_that_was_asked_for() -> None:
    asked = workflow()
    asked.media.derived_from_media_id = "source"
    ended = lifecycle.rolled_up(asked, counts(total=2, succeeded=2), parts(SOURCE, MADE[0]))
    assert ended is not None
    assert (ended.media.id, ended.media.derived_from_media_id) == ("mp3", "source")
    assert not ended.conversions


def test_one_part_that_fails_fails_it_with_that_reason() -> None:
    failed = Job(state=job_pb2.JOB_STATE_FAILED, error=BROKEN)
    ended = lifecycle.rolled_up(
        workflow(), counts(succeeded=2, failed=1), [*parts(SOURCE, MADE[0]), failed]
    )
    assert ended is not None
    assert ended.state == job_pb2.JOB_STATE_FAILED
    assert Failure.from_status(ended.error).reason == reason_pb2.REASON_CONVERSION_FAILED


def test_it_is_cached_when_nothing_had_to_be_made() -> None:
    cached = parts(SOURCE, *MADE)
    for part in cached:
        part.cached = True
    ended = lifecycle.rolled_up(workflow(), counts(succeeded=3), cached)
    assert ended is not None
    assert ended.cached


def test_progress_never_goes_back() -> None:
    job = workflow()
    job.progress.fraction = 0.9
    later = lifecycle.rolled_up(job, counts(succeeded=1, fractions=0.1))
    assert later is not None
    later = lifecycle.with_fraction(later, job)
    assert later.progress.fraction == 0.9
    released = lifecycle.released(later)
    assert released.progress.fraction == 0.9


@pytest.mark.parametrize(
    ("job", "conversion", "of_parts"),
    [
        (Job(kind=job_pb2.JOB_KIND_INGEST), False, False),
        (workflow(), False, True),
        (Job(kind=job_pb2.JOB_KIND_PLAYLIST, recipes=RECIPES), False, False),
        (Job(kind=job_pb2.JOB_KIND_CONVERT, recipes=RECIPES[:1], media=MADE[0]), True, False),
    ],
)
def test_which_job_is_which(job: Job, conversion: bool, of_parts: bool) -> None:
    assert lifecycle.is_conversion(job) == conversion
    assert lifecycle.is_workflow(job) == of_parts
