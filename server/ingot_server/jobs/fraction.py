"""How much of a whole job is done, computed from its stage and from how much of that is done.

Each stage has the part of the whole that its time is of a job's time, as `python -m bench
stage_times` measures it (docs/performance.md). A stage that is skipped, because its
result is stored already, moves the fraction forward at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import JobStage, StageProgress

# With this many bytes a download of unknown size counts as half done.
_HALF_OF_UNKNOWN_BYTES: Final = 32 << 20
# Times of an ingest and of one conversion of its result.
_INGEST_WEIGHT: Final = 50
_CONVERSION_WEIGHT: Final = 50


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one kind of work, and which part of the whole each of them is."""

    ranges: Mapping[JobStage.ValueType, tuple[float, float]]

    def fraction(self, stage: JobStage.ValueType, progress: StageProgress) -> float:
        """Return the share of the whole that is done, from 0 to 1, during `stage`."""
        begin, end = self.ranges.get(stage, (0.0, 0.0))
        return begin + (end - begin) * _share(progress)


def _stages(weights: Mapping[JobStage.ValueType, float]) -> Stages:
    ranges, total, begin = {}, sum(weights.values()), 0.0
    for stage, weight in weights.items():
        ranges[stage] = (begin, begin + weight / total)
        begin += weight / total
    return Stages(ranges)


FILE: Final = _stages(
    {
        job_pb2.JOB_STAGE_RESOLVING: 1,
        job_pb2.JOB_STAGE_DOWNLOADING: 90,
        job_pb2.JOB_STAGE_PROBING: 7,
        job_pb2.JOB_STAGE_STORING: 1,
        job_pb2.JOB_STAGE_COMMITTING: 1,
    }
)
"""A file that is stored while it arrives."""

EXTRACTION: Final = _stages(
    {
        job_pb2.JOB_STAGE_RESOLVING: 8,
        job_pb2.JOB_STAGE_DOWNLOADING: 66,
        job_pb2.JOB_STAGE_PROBING: 5,
        job_pb2.JOB_STAGE_STORING: 20,
        job_pb2.JOB_STAGE_COMMITTING: 1,
    }
)
"""A media item that yt-dlp finds and fetches; it is stored afterwards."""

CONVERSION: Final = _stages(
    {
        job_pb2.JOB_STAGE_CONVERTING: 98,
        job_pb2.JOB_STAGE_STORING: 1,
        job_pb2.JOB_STAGE_COMMITTING: 1,
    }
)
"""One conversion of a stored media item."""


def conversion_fraction(share_converted: float) -> float:
    """Return the fraction of a conversion of which ffmpeg has made that share, from 0 to 1."""
    progress = StageProgress(fraction=share_converted)
    return CONVERSION.fraction(job_pb2.JOB_STAGE_CONVERTING, progress)


def workflow_fraction(ingest: float, conversions: float, *, count: int) -> float:
    """Return the fraction of an ingest with `count` conversions.

    `ingest` is the fraction of the ingest, and `conversions` the sum of those of the conversions.
    """
    done = _INGEST_WEIGHT * ingest + _CONVERSION_WEIGHT * conversions
    return done / (_INGEST_WEIGHT + _CONVERSION_WEIGHT * count)


def list_fraction(ended: int, running: float, total: int) -> float:
    """Return the fraction of a list; `running` is the sum of the fractions of running entries."""
    return (ended + running) / max(1, total)


def _share(progress: StageProgress) -> float:
    """Return the share of a stage that is done; it never reaches 1 if the total is unknown."""
    if progress.HasField("fraction"):
        return min(1.0, progress.fraction)
    return progress.bytes_done / (progress.bytes_done + _HALF_OF_UNKNOWN_BYTES)
