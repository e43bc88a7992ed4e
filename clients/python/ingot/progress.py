"""Progress for people, on stderr: a bar on a terminal, else a line whenever something changes."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ingot import text
from ingot.v1.job_pb2 import Job, JobState


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done, and how far it is in bytes; None is unknown."""

    doing: str
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_second: float = 0
    left_seconds: float | None = None


class Drawing(AbstractContextManager["Drawing"]):
    """Shows one thing that advances."""

    def __init__(self) -> None:
        self._bar: _Bar | None = None
        self._doing = ""
        self._failed_attempt = 0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _Bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def job(self, job: Job) -> None:
        """Shows a state of the one job that is watched."""
        if job.state == JobState.JOB_STATE_QUEUED and job.attempt > self._failed_attempt:
            self._failed_attempt = job.attempt
            if job.HasField("error"):
                self.say(_failed_attempt(job))
        self.step(_step(job))

    def step(self, step: Step) -> None:
        """Shows how far it is."""
        if self._bar is not None:
            self._bar.show(step)
        elif step.doing != self._doing:
            self._doing = step.doing
            self.say(step.doing)

    def say(self, line: str) -> None:
        """Shows a line that stays."""
        if self._bar is not None:
            self._bar.say(line)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class Rate:
    """The rate of something that only says how many bytes there are."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None

    def step(self, doing: str, bytes_done: int, bytes_total: int) -> Step:
        now = time.monotonic()
        if self._began is None or bytes_done < self._began[1]:
            # The first call tells what a resumed file has already.
            self._began = (now, bytes_done)
        seconds = now - self._began[0]
        rate = (bytes_done - self._began[1]) / seconds if seconds > 0 else 0
        left = (bytes_total - bytes_done) / rate if rate else None
        return Step(doing, bytes_done, bytes_total, rate, left)


class _Bar:
    """A bar with bytes, rate and time left."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[measures]}", markup=False),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None
        self._progress.start()

    def show(self, step: Step) -> None:
        measures = []
        if step.bytes_done:
            of = "" if step.bytes_total is None else f" of {text.size(step.bytes_total)}"
            measures.append(f"{text.size(step.bytes_done)}{of}")
        if step.bytes_per_second:
            measures.append(f"{text.size(step.bytes_per_second)}/s")
        if step.left_seconds is not None:
            measures.append(f"{text.length(step.left_seconds)} left")
        if self._task is None:
            self._task = self._progress.add_task("", total=None, measures="")
        self._progress.update(
            self._task,
            description=step.doing,
            completed=step.bytes_done,
            total=step.bytes_total,
            measures=", ".join(measures),
        )

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def _step(job: Job) -> Step:
    doing = text.state(job)
    if job.state == JobState.JOB_STATE_SUCCEEDED:
        return Step(doing, job.media.blob.size_bytes, job.media.blob.size_bytes)
    if job.state != JobState.JOB_STATE_RUNNING:
        return Step(doing)
    progress = job.progress
    return Step(
        doing,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total if progress.HasField("bytes_total") else None,
        bytes_per_second=progress.bytes_per_second,
        left_seconds=progress.eta.ToTimedelta().total_seconds()
        if progress.HasField("eta")
        else None,
    )


def _failed_attempt(job: Job) -> str:
    line = f"Try {job.attempt} failed: {text.printable(job.error.message)}"
    if not job.HasField("retry_time"):
        return line
    wait = (job.retry_time.ToDatetime(UTC) - datetime.now(UTC)).total_seconds()
    return f"{line} Next try in {text.length(max(wait, 0))}."
