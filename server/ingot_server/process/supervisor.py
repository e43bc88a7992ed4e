"""Programs that are kept running: started, watched, restarted when they die, stopped within a time.

What always holds: every started program has one task that waits for its end. When a program ends,
the rest of its process group is killed. On Linux, no program outlives this process, however this
process ends (see launch.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from ingot_server.log_events import Event
from ingot_server.process.launch import launch_command
from ingot_server.process.program_log import ProgramLog
from ingot_server.setting_values import LogFormat

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_STEADY_SECONDS: Final = 10.0  # after running this long, the pauses are short again
_LINE_BYTES: Final = 64 << 10
_KEPT_LINES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How to run a program, and how to know that it is ready."""

    name: str
    """For the log."""
    arguments: tuple[str, ...]
    """The command line; the first is the path of the executable."""
    ready: re.Pattern[str] | None
    """Matches a line that it prints when it is ready; None: it is ready once it runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables in addition to those of this process."""
    directory: Path | None = None
    """Where it is started; None is the directory of this process."""
    shown: re.Pattern[str] = re.compile("")
    """Matches the lines that go to the log; the others are shown only if the program fails."""
    stop_signal: signal.Signals = signal.SIGTERM


class ProgramFailed(Exception):
    """A program ended before it was ready; the message has its last lines."""


class SupervisedProgram:
    """One program that is kept running from `start` to `stop`."""

    def __init__(
        self,
        program: Program,
        *,
        inherited_fds: Iterable[int] = (),
        log: TextIO,
        log_format: LogFormat = LogFormat.TEXT,
    ) -> None:
        """Prepare to run `program`, which inherits `inherited_fds`; its lines go to `log`."""
        self.program = program
        self.restarts = 0
        self._inherited_fds = tuple(inherited_fds)
        self._log = ProgramLog(program.name, log, log_format)
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the program. If it ends after it was ready once, it is started again."""
        self._task = asyncio.create_task(self._keep_running())

    async def wait_until_ready(self) -> None:
        """Wait until it is ready for the first time. Raises ProgramFailed if it ends before."""
        await asyncio.shield(self._was_ready)

    @property
    def pid(self) -> int | None:
        """The id of its process, None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def stop(self, kill_after: float) -> None:
        """Send its stop signal, and kill it and its group after `kill_after` seconds."""
        if self._task is None:
            return
        self._stopping.set()
        self._signal(self.program.stop_signal)
        if not (await asyncio.wait({self._task}, timeout=kill_after))[0]:
            self._log.tell(
                Event.PROGRAM_KILLED, f"did not stop within {kill_after:g} s and is killed"
            )
            self.kill()
        await self._task

    def kill(self) -> None:
        """Kill it and its process group at once; it is not started again."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGKILL else os.kill)(self.pid, number)

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        try:
            while True:
                started = loop.time()
                ending = await self._run_once()
                if self._stopping.is_set():
                    return
                if not self._was_ready.done():
                    lines = "".join(f"\n  {line}" for line in self._last_lines)
                    raise ProgramFailed(f"{self.program.name} {ending} before it was ready.{lines}")
                if loop.time() - started > _STEADY_SECONDS:
                    pause = _FIRST_PAUSE
                self._log.tell(Event.PROGRAM_ENDED, f"{ending}; it is started again in {pause:g} s")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
                self.restarts += 1
        except (ProgramFailed, OSError) as failure:
            if isinstance(failure, OSError):
                failure = ProgramFailed(f"{self.program.name} cannot be run: {failure}")
            self._was_ready.set_exception(failure)
            self._was_ready.exception()  # marked as retrieved: no caller may be waiting
        finally:
            self._was_ready.cancel()  # it was stopped before it was ready

    async def _run_once(self) -> str:
        """Run the program until it ends; return in words how it ended."""
        program = self.program
        process = await asyncio.create_subprocess_exec(
            *launch_command(*program.arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **program.environment},
            cwd=program.directory,
            pass_fds=self._inherited_fds,
            # Ctrl-C in a terminal signals the whole foreground group; only this process shall
            # receive it.
            start_new_session=True,
        )
        self._process = process
        if program.ready is None:
            self._set_ready()
        if self._stopping.is_set():  # `stop` was called during the start
            self._signal(program.stop_signal)
        reader = asyncio.create_task(self._read_output(process))
        code = await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Its last lines may not have arrived yet. Do not wait for long: a process that inherited
        # its output may keep it open.
        await asyncio.wait({reader}, timeout=0.5)
        reader.cancel()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            if self.program.shown.search(line):
                self._log.show(line)
            else:
                self._last_lines.append(line)
            if self.program.ready is not None and self.program.ready.search(line):
                self._set_ready()

    def _set_ready(self) -> None:
        if not self._was_ready.done():
            self._was_ready.set_result(None)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    rest = b""
    while chunk := await stream.read(_LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines.append(rest)
            rest = b""
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
