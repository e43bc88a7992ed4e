"""Looks for the secrets of the tests in everything that the tests' servers wrote.

Secrets that tests give to Ingot contain MARK. So whatever a server wrote can be searched for one
text: the log, the files of Redis, the objects of the bucket, and the command lines of processes.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ingot_server.event_log import TextFormatter

MARK: Final = "N0TsH0WN"

# What has to contain the keys of the stores; only their user can read these.
_KEPT_SECRET: Final = ("s3.json", "identities.json", "security.toml", "grpc-key.pem")
_SERVERS: Final = re.compile(rb"ingot_server|ffmpeg|valkey|redis-server|weed|minio")


def assert_no_leak(directory: Path, output: Iterable[str], *secrets: str) -> None:
    """Search the files of a server, what it printed, and the command lines of all servers."""
    wanted = [MARK, *filter(None, secrets)]
    found = [line for line in output if any(each in line for each in wanted)]
    found += _files_with(wanted, directory)
    found += _command_lines_with(wanted)
    assert not found, f"a secret was written: {found[:5]}"


def _files_with(wanted: list[str], directory: Path) -> list[str]:
    patterns = [option for each in wanted for option in ("-e", each)]
    # -s: files come and go while a server runs.
    result = subprocess.run(
        [
            *("grep", "-rlaFs", "--binary-files=text", "--devices=skip"),
            *(f"--exclude={name}" for name in _KEPT_SECRET),
            *(*patterns, str(directory)),
        ],
        capture_output=True,
        text=True,
    )
    return result.stdout.splitlines()


def _command_lines_with(wanted: list[str]) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        if _SERVERS.search(line) and any(each.encode() in line for each in wanted):
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


class LeakHandler(logging.Handler):
    """Keeps the lines of the log of this process, as a server writes them, that have a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.setFormatter(TextFormatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("ingot_server"):
            line = self.format(record)
            if MARK in line:
                self.found.append(line)
