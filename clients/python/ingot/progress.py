"""Progress on stderr: bars on a terminal, otherwise a line whenever the activity changes."""

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
from ingot.v1.job_pb2 import Job, JobState, StageProgress

LONGEST_NAME: Final = 40


@dataclass(frozen=True, slots=True)
class Step:
    """One state of an activity, as it is displayed. None and zero mean unknown."""

    activity: str
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_second: float = 0
    remaining_seconds: float | None = None
    fraction: float | None = None
    """Share of the whole that is done, from 0 to 1; replaces the share that the bytes give."""
    speed: float = 0
    """Seconds of media that are processed in one second."""
    name: str = ""
    """Name of the job or file that the step belongs to, if several are displayed."""


class ProgressDisplay(AbstractContextManager["ProgressDisplay"]):
    """The progress of jobs and transfers on stderr; with `show_names` each line has its name."""

    def __init__(self, *, show_names: bool = False) -> None:
        self._show_names = show_names
        self._bars: _Bars | None = None
        self._activities: dict[str, str] = {}
        self._failed_attempts: dict[str, int] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = _Bars()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.close()

    @property
    def has_bars(self) -> bool:
        return self._bars is not None

    def show_job(self, job: Job, share: float = 1.0) -> None:
        """Display a state of a job, which is that `share` of what its bar shows."""
        known_attempts = self._failed_attempts.get(job.id, 0)
        if job.state == JobState.JOB_STATE_QUEUED and job.attempt > known_attempts:
            self._failed_attempts[job.id] = job.attempt
            if job.HasField("last_attempt_error"):
                name = render.printable(job.display_name or job.url)
                prefix = f"{name}: " if self._show_names else ""
                self.print_line(prefix + _failed_attempt(job))
        step = _job_step(job, show_name=self._show_names)
        self.show_step(replace(step, fraction=share * job.progress.fraction), job.id)

    def show_child(self, job: Job) -> None:
        """Display a child of a job, if there are bars."""
        if self._bars is not None:
            self._bars.show(_job_step(job, show_name=True), job.id)

    def remove_child(self, job_id: str) -> None:
        """Remove the bar of a child, if it has one."""
        if self._bars is not None:
            self._bars.remove(job_id)

    def show_step(self, step: Step, key: str = "") -> None:
        """Display a step in the bar with this `key`; without bars only a new activity."""
        if self._bars is not None:
            self._bars.show(step, key)
        elif step.activity != self._activities.get(key):
            self._activities[key] = step.activity
            self.print_line(f"{step.activity}  {step.name}".rstrip())

    def print_line(self, line: str) -> None:
        """Print a line that stays above the bars."""
        if self._bars is not None:
            self._bars.print_line(line)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class RateMeter:
    """The average rate of a transfer that reports only its number of bytes."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None

    def step(self, activity: str, bytes_done: int, bytes_total: int) -> Step:
        """Return the step of a transfer, with its rate and the time that remains."""
        now = time.monotonic()
        if self._start is None or bytes_done < self._start[1]:
            # A resumed transfer starts with the bytes of the transfer before it.
            self._start = (now, bytes_done)
        seconds = now - self._start[0]
        rate = (bytes_done - self._start[1]) / seconds if seconds > 0 else 0
        remaining = (bytes_total - bytes_done) / rate if rate else None
        return Step(activity, bytes_done, bytes_total, rate, remaining)


class _Bars:
    """The bars on a terminal, one for each key, with bytes, rate and remaining time."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def show(self, step: Step, key: str) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task("", total=None, details="")
        completed: float = step.bytes_done
        total: float | None = step.bytes_total
        if step.fraction is not None:
            completed, total = step.fraction, 1.0
        self._progress.update(
            self._tasks[key],
            description=step.activity,
            completed=completed,
            total=total,
            details=_details(step),
        )

    def remove(self, key: str) -> None:
        if (task := self._tasks.pop(key, None)) is not None:
            self._progress.remove_task(task)

    def print_line(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def _details(step: Step) -> str:
    """Return the text at the right of a bar."""
    details = [] if step.fraction is None else [f"{step.fraction:.0%}"]
    if step.bytes_done:
        total = "" if step.bytes_total is None else f" of {render.size(step.bytes_total)}"
        details.append(f"{render.size(step.bytes_done)}{total}")
    if step.speed:
        details.append(f"{step.speed:.3g}x")
    if step.bytes_per_second:
        details.append(f"{render.size(step.bytes_per_second)}/s")
    if step.remaining_seconds is not None:
        details.append(f"{render.duration(step.remaining_seconds)} left")
    if step.name:
        details.append(step.name)
    return ", ".join(details)


def _job_step(job: Job, *, show_name: bool = False) -> Step:
    """Return what is displayed of a state of a job."""
    activity = ", ".join(filter(None, [render.state(job), render.waiting(job.waiting)]))
    size = job.media.blob.size_bytes if job.state == JobState.JOB_STATE_SUCCEEDED else 0
    stage = StageProgress(bytes_done=size)
    if job.state == JobState.JOB_STATE_RUNNING or job.HasField("children"):
        stage = job.progress.stage
    name = _shorten(render.printable(job.display_name or job.url)) if show_name else ""
    return Step(
        activity,
        bytes_done=stage.bytes_done,
        bytes_total=stage.bytes_total if stage.HasField("bytes_total") else None,
        bytes_per_second=stage.bytes_per_second,
        remaining_seconds=stage.eta.ToTimedelta().total_seconds()
        if stage.HasField("eta")
        else None,
        fraction=job.progress.fraction,
        name=", ".join(filter(None, [render.entries(job), name])),
        speed=stage.speed,
    )


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."


def _failed_attempt(job: Job) -> str:
    message = render.printable(job.last_attempt_error.message)
    line = f"Attempt {job.attempt} failed: {message}"
    if not job.waiting.HasField("end_time"):
        return line
    wait = (job.waiting.end_time.ToDatetime(UTC) - datetime.now(UTC)).total_seconds()
    return f"{line} Next attempt in {render.duration(max(wait, 0))}."
