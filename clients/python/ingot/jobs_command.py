"""The jobs of a server on the command line: their list, and every change of them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ingot import render
from ingot.client import Client
from ingot.job import ENDED, RemovedJob
from ingot.output import write_json, write_stream_table, write_table, write_text
from ingot.v1.job_pb2 import Job, JobState
from ingot.v1.job_service_pb2 import SnapshotEnd, WatchJobsResponse


async def list_jobs(client: Client, options: Namespace) -> None:
    """Print the jobs that match the options; with `--watch` also every change, without end."""
    states = [JobState.Value(f"JOB_STATE_{name.upper()}") for name in options.state]
    labels = dict(options.label)
    if options.watch:
        await _print_updates(client.watch_jobs(states=states, labels=labels), options)
    else:
        jobs = client.jobs(states=states, labels=labels)
        await write_stream_table(options, jobs, render.JOB_COLUMNS, render.job_row)


async def watch_all_jobs(client: Client, options: Namespace) -> None:
    """Print the jobs that have not ended, then every change of any job, without end.

    With `--json`, print what `Client.watch_jobs` yields.
    """
    await _print_updates(client.watch_jobs(), options, shows_ended=False)


async def _print_updates(
    updates: AsyncGenerator[Job | RemovedJob | SnapshotEnd, None],
    options: Namespace,
    *,
    shows_ended: bool = True,
) -> None:
    """Print a table of the snapshot, then a line for each update; all as JSON with `--json`.

    With `shows_ended` the table also has the jobs that have ended.
    """
    snapshot: list[Job] | None = []
    async with aclosing(updates):
        async for update in updates:
            if options.json:
                write_json(_as_response(update))
            elif isinstance(update, SnapshotEnd):
                if snapshot is not None:
                    write_table(options, snapshot, render.JOB_COLUMNS, render.job_row)
                snapshot = None
            elif isinstance(update, RemovedJob):
                write_text(f"{update.id}  removed")
            elif snapshot is None:
                write_text(render.table([render.job_row(update)]))
            elif shows_ended or update.state not in ENDED:
                snapshot.append(update)


def _as_response(update: Job | RemovedJob | SnapshotEnd) -> WatchJobsResponse:
    match update:
        case RemovedJob():
            return WatchJobsResponse(removed_job_id=update.id)
        case SnapshotEnd():
            return WatchJobsResponse(snapshot_end=update)
        case Job():
            return WatchJobsResponse(job=update)
