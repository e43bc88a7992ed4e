"""Progress for people, on stderr: a bar on a terminal, else a line whenever something changes."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ingot import render
from ingot.overall_progress import OverallProgress, converts
from ingot.v1.job_pb2 import Job, JobState

LONGEST_NAME: Final = 40


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done, and how far it is in bytes; None is unknown."""

    doing: str
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_second: float = 0
    left_seconds: float | None = None
    fraction: float | None = None
    """How far it is where bytes do not tell."""
    speed: float = 0
    """Seconds of media done in one second; 0 says nothing."""
    of: str = ""
    """What it is a step of, where several things are shown."""


class Drawing(AbstractContextManager["Drawing"]):
    """Shows things that advance; with `several` also what each is."""

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self._bar: _Bar | None = None
        self._doing: dict[str, str] = {}
        self._failed_attempts: dict[str, int] = {}

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

    def job(self, job: Job, whole: OverallProgress | None = None) -> None:
        """Shows a state of a job that is watched, with `whole` as far as that is."""
        known = self._failed_attempts.get(job.id, 0)
        if job.state == JobState.JOB_STATE_QUEUED and job.attempt > known:
            self._failed_attempts[job.id] = job.attempt
            if job.HasField("error"):
                about = f"{render.printable(job.url)}: " if self._several else ""
                self.say(about + _failed_attempt(job))
        step = _step(job, named=self._several)
        if whole is not None:
            step = replace(step, fraction=whole.job(job))
        self.step(step, job.id)

    @property
    def has_bars(self) -> bool:
        return self._bar is not None

    def part(self, job: Job) -> None:
        """Shows how far a part of a job is, where there are bars."""
        if self._bar is not None:
            self._bar.show(_step(job, named=True), job.id)

    def remove(self, job_id: str) -> None:
        """Takes the bar of a part away."""
        if self._bar is not None:
            self._bar.remove(job_id)

    def step(self, step: Step, key: str = "") -> None:
        """Shows how far the thing with this `key` is."""
        if self._bar is not None:
            self._bar.show(step, key)
        elif step.doing != self._doing.get(key):
            self._doing[key] = step.doing
            self.say(f"{step.doing}  {step.of}".rstrip())

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
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def show(self, step: Step, key: str) -> None:
        measures = [] if step.fraction is None else [f"{step.fraction:.0%}"]
        if step.bytes_done:
            of = "" if step.bytes_total is None else f" of {render.size(step.bytes_total)}"
            measures.append(f"{render.size(step.bytes_done)}{of}")
        if step.speed:
            measures.append(f"{step.speed:.3g}x")
        if step.bytes_per_second:
            measures.append(f"{render.size(step.bytes_per_second)}/s")
        if step.left_seconds is not None:
            measures.append(f"{render.length(step.left_seconds)} left")
        if step.of:
            measures.append(step.of)
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task("", total=None, measures="")
        completed: float = step.bytes_done
        total: float | None = step.bytes_total
        if step.fraction is not None:
            completed, total = step.fraction, 1.0
        self._progress.update(
            self._tasks[key],
            description=step.doing,
            completed=completed,
            total=total,
            measures=", ".join(measures),
        )

    def remove(self, key: str) -> None:
        if (task := self._tasks.pop(key, None)) is not None:
            self._progress.remove_task(task)

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def _step(job: Job, *, named: bool = False) -> Step:
    doing = render.state(job)
    of = _shortened(render.printable(job.url)) if named else ""
    if job.HasField("children") and not converts(job):
        return Step(
            doing,
            bytes_done=job.progress.bytes_done,
            bytes_per_second=job.progress.bytes_per_second,
            fraction=job.progress.fraction,
            of=", ".join(filter(None, [render.entries(job), of])) if job.children.total else of,
        )
    if job.state == JobState.JOB_STATE_SUCCEEDED:
        return Step(doing, job.media.blob.size_bytes, job.media.blob.size_bytes, of=of)
    if job.state != JobState.JOB_STATE_RUNNING:
        return Step(doing, of=of)
    progress = job.progress
    return Step(
        doing,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total if progress.HasField("bytes_total") else None,
        bytes_per_second=progress.bytes_per_second,
        left_seconds=progress.eta.ToTimedelta().total_seconds()
        if progress.HasField("eta")
        else None,
        fraction=progress.fraction if converts(job) else None,
        of=of,
        speed=progress.speed,
    )


def _shortened(url: str) -> str:
    return url if len(url) <= LONGEST_NAME else f"...{url[-LONGEST_NAME:]}"


def _failed_attempt(job: Job) -> str:
    line = f"Try {job.attempt} failed: {render.printable(job.error.message)}"
    if not job.HasField("retry_time"):
        return line
    wait = (job.retry_time.ToDatetime(UTC) - datetime.now(UTC)).total_seconds()
    return f"{line} Next try in {render.length(max(wait, 0))}."
