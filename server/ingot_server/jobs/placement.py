"""Where a job runs, and what its place among the ready jobs depends on."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from ingot.v1.job_pb2 import Job
from ingot_server.jobs.lifecycle import is_conversion

_SPACE: Final = re.compile(r"\s")
# ffmpeg's encoders and decoders of video use all processors.
_WHOLE_WORKER: Final = 0


class Work(StrEnum):
    """The two kinds of work. A worker does one of them or both, each in slots of its own."""

    FETCH = "fetch"
    CONVERT = "convert"


def work_of(job: Job) -> Work:
    """Return which workers run the job."""
    return Work.CONVERT if is_conversion(job) else Work.FETCH


def placement(job: Job) -> dict[str, str | int]:
    """Return what the script keeps of a job to dispatch it, see dispatch.lua."""
    return {
        "queue": work_of(job),
        "host": _host(job),
        "source": "" if is_conversion(job) else job.media.source.name,
        "priority": job.priority,
        "cost": _WHOLE_WORKER if is_conversion(job) and _takes_all_processors(job) else 1,
    }


def caller_key(caller: str) -> str:
    """Return what tells callers apart as a part of keys in Redis."""
    return _SPACE.sub("_", caller)


def _takes_all_processors(job: Job) -> bool:
    """Return whether all video is decoded, or even encoded."""
    return any(each.WhichOneof("format") in {"mp4", "storyboard"} for each in job.recipes)


def _host(job: Job) -> str:
    """Return the host that the job fetches from; empty if it fetches from none."""
    try:
        parts = urlsplit(job.url)
    except ValueError:
        return ""
    if is_conversion(job) or parts.scheme not in {"http", "https"}:
        return ""
    return _SPACE.sub("_", parts.hostname or "")
