"""Child programs: started, watched, started again when they die, and stopped within a time.

What always holds: every program that was started has one task that waits for its end, a child that
ended takes what is left of its process group with it, and, on Linux, no child outlives us, however
we end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_STEADY_SECONDS: Final = 10.0  # after this long alive, a death counts as the first again
_LINE_BYTES: Final = 64 << 10
_LAST_WORDS: Final = 12

# A child asks the kernel to be killed when its parent dies, and then becomes the program. In a
# process of its own and not in `preexec_fn`, which may deadlock in a parent that has threads.
_PR_SET_PDEATHSIG: Final = 1
_TETHER: Final = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program as it is run: our name for it, and how it says that it is ready."""

    name: str
    arguments: tuple[str, ...]  # the first is the path of what is executed
    ready: re.Pattern[str] | None  # found in a line it prints once ready; None: once it runs
    environment: Mapping[str, str] = field(default_factory=dict)  # besides our own
    directory: Path | None = None  # where it is started; None is where we are
    shown: re.Pattern[str] = re.compile("")  # lines that people see; the rest only when it fails
    stop_signal: signal.Signals = signal.SIGTERM


class ProgramFailed(Exception):
    """A program ended before it was ready; the message has the lines that were not shown."""


class Child:
    """One program, kept running from `start` to `stop`."""

    def __init__(self, program: Program, *, kept_open: Iterable[int] = (), log: TextIO) -> None:
        """`kept_open` are file descriptors that stay open in it; its lines are written to `log`."""
        self.program = program
        self.restarts = 0
        self._kept_open = tuple(kept_open)
        self._log = log
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts it, and starts it again whenever it ends, but not before it was ready once."""
        self._task = asyncio.create_task(self._keep_running())

    async def ready(self) -> None:
        """Waits until it was ready for the first time. Raises ProgramFailed when it ended."""
        await asyncio.shield(self._was_ready)

    @property
    def pid(self) -> int | None:
        """Its process, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def stop(self, patience: float) -> None:
        """Asks it to end, and kills it and its group after `patience` seconds."""
        if self._task is None:
            return
        self._stopping.set()
        self._signal(self.program.stop_signal)
        if not (await asyncio.wait({self._task}, timeout=patience))[0]:
            self._say(f"did not stop within {patience:g} s and is killed")
            self.kill()
        await self._task

    def kill(self) -> None:
        """Kills it and its process group at once; it is not started again."""
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
                begin = loop.time()
                end = await self._run()
                if self._stopping.is_set():
                    return
                if not self._was_ready.done():
                    words = "".join(f"\n  {line}" for line in self._last_words)
                    raise ProgramFailed(f"{self.program.name} {end} before it was ready.{words}")
                if loop.time() - begin > _STEADY_SECONDS:
                    pause = _FIRST_PAUSE
                self._say(f"{end}; it is started again in {pause:g} s")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
                self.restarts += 1
        except (ProgramFailed, OSError) as failure:
            if isinstance(failure, OSError):
                failure = ProgramFailed(f"{self.program.name} cannot be run: {failure}")
            self._was_ready.set_exception(failure)
            self._was_ready.exception()  # known, even if nobody waits for it
        finally:
            self._was_ready.cancel()  # it was stopped before it was ready

    async def _run(self) -> str:
        """Runs the program once; answers with how it ended."""
        program = self.program
        arguments = program.arguments
        if sys.platform == "linux":
            tether = (sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()))
            arguments = (*tether, *arguments)
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **program.environment},
            cwd=program.directory,
            pass_fds=self._kept_open,
            # Ctrl-C in a terminal goes to its whole foreground group: only we shall hear it.
            start_new_session=True,
        )
        self._process = process
        if program.ready is None:
            self._set_ready()
        if self._stopping.is_set():  # asked to while it was being started
            self._signal(program.stop_signal)
        reader = asyncio.create_task(self._read(process))
        code = await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # What it wrote last is still on its way; who inherited its output may keep that open.
        await asyncio.wait({reader}, timeout=0.5)
        reader.cancel()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            if self.program.shown.search(line):
                self._log.write(f"{self.program.name:<9} {line}\n")
                self._log.flush()
            else:
                self._last_words.append(line)
            if self.program.ready is not None and self.program.ready.search(line):
                self._set_ready()

    def _set_ready(self) -> None:
        if not self._was_ready.done():
            self._was_ready.set_result(None)

    def _say(self, message: str) -> None:
        self._log.write(f"ingot-server: {self.program.name} {message}\n")
        self._log.flush()


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
