"""Fork servers for the tests, in milliseconds each.

To import yt-dlp and compile its URL patterns takes more than a second of processor time, and each
test has a worker of its own. So they are prepared once for all tests of a pytest process, in a
process that forks a fork server for each worker. From there on nothing differs from a fork server
that a worker has started itself; `test_fork_server.py` and the tests end to end use such ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import pytest

from ingot_server.config import Settings
from ingot_server.extractor import pool
from ingot_server.probe import prober
from ingot_server.process import fork_server
from ingot_server.process.child import ENVIRONMENT
from ingot_server.process.ffmpeg_program import ffmpeg_program
from ingot_server.process.launch import launch_command
from ingot_server.process.limits import Limits

DIRECTORY: Final = "PREPARED_PROGRAMS"
"""The variable that names the directory of the sockets. Without it nothing is prepared."""

_PROCESS: Final = str(Path(__file__).with_name("prepared_process.py"))
_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    pool._PROGRAM: (ffmpeg_program(Settings()),),
    prober._PROGRAM: (),
}
"""The programs that are prepared, and the arguments that they are prepared with."""


@contextlib.contextmanager
def prepared_programs() -> Iterator[None]:
    """Let the fork servers of this process, and of the workers that it starts, be prepared ones."""
    # A socket's path may be no longer than 104 bytes, so not below pytest's own directories.
    with tempfile.TemporaryDirectory(prefix="ingot-") as directory, contextlib.ExitStack() as stack:
        for program, arguments in _PROGRAMS.items():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(_socket(directory, program))
                listener.listen()
                process = subprocess.Popen(
                    launch_command(sys.executable, "-I", _PROCESS, program, *arguments),
                    stdin=listener.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=dict(ENVIRONMENT),
                    start_new_session=True,
                )
            stack.callback(process.wait)
            stack.callback(process.kill)
        with pytest.MonkeyPatch.context() as changed:
            changed.setenv(DIRECTORY, directory)
            changed.setattr(fork_server, "_Parent", _Prepared)
            yield


def use_prepared_programs() -> None:
    """Do so in a worker that a test has started."""
    if DIRECTORY in os.environ:
        fork_server._Parent = _Prepared  # type: ignore[misc]


def _socket(directory: str, program: str) -> str:
    return str(Path(directory, Path(program).stem))


class _Prepared(fork_server._Parent):
    """A process to fork from; a prepared one, if there is one for the program and its arguments."""

    @classmethod
    async def launch(
        cls,
        program: str,
        arguments: tuple[str, ...],
        limits: Limits,
        network: fork_server._ChosenNetwork,
    ) -> Self:
        if _PROGRAMS.get(program) != arguments or DIRECTORY not in os.environ:
            return await super().launch(program, arguments, limits, network)
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.connect(_socket(os.environ[DIRECTORY], program))
        control.send(json.dumps(network.described()).encode())
        control.setblocking(False)
        process: Any = _Connected(control)
        return cls(process, control, arguments, limits, network)

    async def retire(self) -> None:
        own = not isinstance(self._process, _Connected)
        if own or self.ended or not self._last_number:
            await super().retire()
            return
        with self._control.dup() as left:
            await super().retire()
            if self.ended:
                # No test sees a process of the one before it.
                left.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(left, 4096):
                    pass


class _Connected:
    """What a fork server needs of the process at the other end of its connection."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self.stderr = asyncio.StreamReader()
        self.stderr.feed_eof()

    def kill(self) -> None:
        # It ends at the end of the connection, and its children with it.
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    async def wait(self) -> None:
        """Return at once: it is not a child of this process; see `retire`."""
