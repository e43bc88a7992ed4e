"""Processes of Ingot's command, and the addresses that they say."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

from ingot_server.config import Settings
from ingot_server.process.launch import launch_command
from tests.waiting import TIMEOUT_SECONDS


@contextlib.contextmanager
def process(
    settings: Settings, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command of `ingot-server` until the context is left."""
    started = subprocess.Popen(
        launch_command(sys.executable, "-m", "ingot_server.cli", *arguments),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings.environment(), **(environment or {})},
    )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=TIMEOUT_SECONDS)


def lines_until(started: subprocess.Popen[str], last: str) -> dict[str, str]:
    """The addresses that a process has printed until the line that has `last`, by their names."""
    assert started.stderr is not None
    found, lines = {}, []
    for line in started.stderr:
        lines.append(line)
        if match := re.search(r"serving (\w+) on (\S+)", line):
            found[match[1]] = match[2]
        if last in line:
            return found
    raise AssertionError("".join(lines))
