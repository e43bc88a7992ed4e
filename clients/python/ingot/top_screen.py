"""The screen of `ingot top`: counts, the total rate, and rows of jobs, as many as fit.

Titles come from strangers. They are made printable and are never read as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ingot import render
from ingot.enums import name_of
from ingot.errors import from_status
from ingot.live_jobs import LiveJobs
from ingot.v1.job_pb2 import Job, JobState

# The cells of one line of a section.
Row = Iterable[Text | ProgressBar]

_STATE_STYLES: Final = {
    JobState.JOB_STATE_RUNNING: "cyan",
    JobState.JOB_STATE_QUEUED: "yellow",
    JobState.JOB_STATE_SUCCEEDED: "green",
    JobState.JOB_STATE_FAILED: "red",
    JobState.JOB_STATE_CANCELLED: "magenta",
}
_BAR_WIDTH: Final = 20
_WIDTH_FOR_BARS: Final = 70
"""Fewer columns than this show neither bars nor what else is not needed."""
_LONGEST_TEXT: Final = 1000
"""Of a longer title no terminal shows more."""


@dataclass(frozen=True, slots=True)
class TopScreen:
    """One state of the screen, which adapts to the size of the terminal that it is printed on."""

    jobs: LiveJobs
    server: str
    now: datetime
    stale_since: datetime | None = None
    """When the connection was lost, if it is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.size.height
        yield _line(self._heading(width))
        yield _line(_counts(self.jobs, width))
        lines = 2
        if self.stale_since is not None:
            lines += 1
            since = _clock(self.stale_since)
            yield _line(
                Text(f"Not up to date since {since}: the connection is lost. Trying again.", "red")
            )
        sections: list[tuple[str, Sequence[Job], Callable[[Job, int], Row]]] = [
            ("Running", self.jobs.running(), _running_row),
            ("Waiting", self.jobs.waiting(), _waiting_row),
            ("Ended", self.jobs.ended(), _ended_row),
        ]
        shown = [section for section in sections if section[1]]
        # Each has an empty line, a title, and at least one row.
        shown = shown[: max((height - lines) // 3, 1)]
        if not shown:
            yield _line(Text("\nThere are no jobs. `ingot ingest URL` starts one.", "dim"))
        shares = share_rows(height - lines - 2 * len(shown), [len(jobs) for _, jobs, _ in shown])
        for (title, jobs, as_row), share in zip(shown, shares, strict=True):
            yield Text()
            hidden = f"  ({share} of {len(jobs)})" if share < len(jobs) else ""
            yield _line(Text.assemble((title, "bold"), (hidden, "dim")))
            yield _grid(as_row(job, width) for job in jobs[:share])

    def _heading(self, width: int) -> Text:
        left, right = f"ingot top  {self.server}", f"q quits  {_clock(self.now)}"
        return Text(f"{left}{right:>{max(width - len(left), len(right) + 2)}}", "dim")


def share_rows(available: int, wanted: Sequence[int]) -> list[int]:
    """Share `available` rows among sections that want so many each.

    A section that wants less than an equal share leaves the rest to the others.
    """
    shares = [0] * len(wanted)
    left = max(available, 0)
    while left and (hungry := [i for i, rows in enumerate(wanted) if shares[i] < rows]):
        for index in hungry[:left]:
            shares[index] += 1
        left -= min(left, len(hungry))
    return shares


def _counts(jobs: LiveJobs, width: int) -> Text:
    text = Text()
    counts = jobs.counts
    for state in render.STATES:
        if counts[state] or width >= _WIDTH_FOR_BARS:
            style = f"bold {_STATE_STYLES[state]}" if counts[state] else "dim"
            text.append(f"{counts[state]} ", style)
            text.append(f"{_state_name(state)}  ", "" if counts[state] else "dim")
    return text.append(f" {render.size(jobs.bytes_per_second)}/s", "bold")


def _running_row(job: Job, width: int) -> Row:
    fraction, stage = job.progress.fraction, job.progress.stage
    details = [f"{render.size(stage.bytes_per_second)}/s" if stage.bytes_per_second else ""]
    if stage.HasField("eta"):
        details.append(f"{render.duration(stage.eta.ToTimedelta().total_seconds())} left")
    yield Text(render.state(job))
    if width >= _WIDTH_FOR_BARS:
        yield ProgressBar(total=1, completed=fraction, width=_BAR_WIDTH)
    yield Text(f"{fraction:.0%}", justify="right")
    if width >= _WIDTH_FOR_BARS:
        yield Text(", ".join(filter(None, details)), "dim")
    yield _name(job)


def _waiting_row(job: Job, width: int) -> Row:
    cause = Text(render.printable(render.waiting(job.waiting) or "waits for a worker"))
    cause.truncate(width // 2, overflow="ellipsis")
    yield cause
    yield _name(job)


def _ended_row(job: Job, width: int) -> Row:
    state = Text(render.state(job), _STATE_STYLES.get(job.state, ""))
    if width >= _WIDTH_FOR_BARS:
        yield Text(_clock(job.end_time.ToDatetime(UTC)), "dim")
    yield state
    name = _name(job)
    if job.state == JobState.JOB_STATE_FAILED:
        error = from_status(job.error)
        name.append(f"  [{error.reason}] {_cut(error.message)}", "red")
    yield name


def _name(job: Job) -> Text:
    shown = ", ".join(filter(None, [_cut(job.display_name or job.url), render.entries(job)]))
    return Text(shown)


def _cut(text: str) -> str:
    return render.printable(text[:_LONGEST_TEXT])


def _grid(rows: Iterable[Row]) -> Table:
    """Lay out rows of one line each; the last column takes the rest of the line."""
    cells = [list(row) for row in rows]
    grid = Table.grid(padding=(0, 2), expand=True)
    for index in range(len(cells[0]) if cells else 0):
        is_last = index == len(cells[0]) - 1
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if is_last else None)
    for row in cells:
        grid.add_row(*row)
    return grid


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _state_name(state: JobState.ValueType) -> str:
    return name_of(JobState, state).lower()


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"
