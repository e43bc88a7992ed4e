"""The command `top`: what goes on in all jobs, live on a terminal and otherwise once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from ingot import render
from ingot.client import Client
from ingot.live_jobs import SNAPSHOT_SIZE, LiveJobs
from ingot.output import write_json, write_table, write_text
from ingot.v1.job_service_pb2 import JobStateCount, ListJobsResponse, SnapshotEnd

if sys.platform != "win32":
    import termios
    import tty

_PAUSE_SECONDS: Final = 0.25
"""The screen is drawn at most this often."""

_IDLE_SECONDS: Final = 1.0
"""The screen is drawn at least this often, because it has a clock."""


def is_live(options: Namespace) -> bool:
    """Return whether the command draws on a terminal until it is ended."""
    return not options.json and sys.stdout.isatty()


async def show_top(client: Client, options: Namespace) -> None:
    """Show what goes on: on a terminal until `q` is pressed, otherwise once as text or JSON."""
    # The watch would wait for a server that does not run.
    async with aclosing(client.jobs()) as jobs:
        async for _ in jobs:
            break
    top = _Top()
    if is_live(options):
        await top.run(client, options.server)
    else:
        await top.read_snapshot(client)
        _write_snapshot(top.jobs, options)


class _Top:
    """What the screen shows, and whether it has to be drawn again."""

    def __init__(self) -> None:
        self.jobs = LiveJobs()
        self._stale_since: datetime | None = None
        self._has_ended = False
        self._changed = asyncio.Event()

    async def run(self, client: Client, server: str) -> None:
        """Draw the screen until `q` is pressed. Raises the error that ends the watch."""
        from rich.live import Live  # rich takes a tenth of a second to load

        from ingot.top_screen import TopScreen

        following = asyncio.create_task(self._follow(client))
        following.add_done_callback(lambda _: self._changed.set())
        try:
            await self._changed.wait()  # for the end of the snapshot
            with self._events(), Live(screen=True, auto_refresh=False) as live:
                while not self._has_ended and not following.done():
                    self._changed.clear()
                    now = datetime.now(UTC)
                    live.update(TopScreen(self.jobs, server, now, self._stale_since), refresh=True)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), _IDLE_SECONDS)
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def read_snapshot(self, client: Client) -> None:
        """Read the jobs once."""
        async with aclosing(client.watch_jobs(snapshot_size=SNAPSHOT_SIZE)) as updates:
            async for update in updates:
                if isinstance(update, SnapshotEnd):
                    return
                self.jobs.update(update)

    async def _follow(self, client: Client) -> None:
        while True:
            await self._follow_one_watch(client)

    async def _follow_one_watch(self, client: Client) -> None:
        """Follow all jobs until a second snapshot.

        It says what there is, and not what is gone since the first one, so a new watch is needed.
        """
        jobs, is_complete = LiveJobs(), False
        watch = client.watch_jobs(
            snapshot_size=SNAPSHOT_SIZE, connection_changed=self._note_connection
        )
        async with aclosing(watch) as updates:
            async for update in updates:
                if not isinstance(update, SnapshotEnd):
                    jobs.update(update)
                elif is_complete:
                    return
                else:
                    self.jobs, is_complete = jobs, True
                if is_complete:
                    self._changed.set()

    def _note_connection(self, is_connected: bool) -> None:
        self._stale_since = None if is_connected else datetime.now(UTC)
        self._changed.set()

    @contextlib.contextmanager
    def _events(self) -> Iterator[None]:
        """Read the keys, and draw again at once when the size of the terminal changes."""
        if sys.platform == "win32":
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        try:
            with _keys(self._press):
                yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)

    def _press(self, keys: bytes) -> None:
        if not keys or b"q" in keys.lower():  # no keys: the terminal is gone
            self._has_ended = True
            self._changed.set()


@contextlib.contextmanager
def _keys(press: Callable[[bytes], None]) -> Iterator[None]:
    """Call `press` with what is typed, at once and without showing it."""
    if sys.platform == "win32" or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    saved = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)

    def read() -> None:
        try:
            keys = os.read(terminal, 64)
        except OSError:
            keys = b""
        if not keys:
            loop.remove_reader(terminal)
        press(keys)

    loop.add_reader(terminal, read)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, saved)


def _write_snapshot(jobs: LiveJobs, options: Namespace) -> None:
    shown = [*jobs.running(), *jobs.waiting(), *jobs.ended()]
    if options.json:
        counts = [JobStateCount(state=state, count=n) for state, n in jobs.counts.items()]
        write_json(ListJobsResponse(jobs=shown, state_counts=counts))
        return
    write_text(render.counts(jobs.counts, jobs.bytes_per_second))
    write_table(options, shown, render.JOB_COLUMNS, render.job_row)
