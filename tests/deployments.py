"""What containers would run, as processes of this machine: the same commands, variables and probes.

No engine of containers is needed. What a container finds under its own names, such as other hosts,
volumes and ports, is here at other places, which `Places` lists.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingot_server.process.supervisor import Program
from tests.waiting import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[1]
_DOCKERFILE = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", "")


def _instruction(name: str) -> str:
    (found,) = re.findall(rf"^{name} (.*)$", _DOCKERFILE, re.MULTILINE)
    return str(found)


ENTRYPOINT: tuple[str, ...] = tuple(re.findall(r'"([^"]+)"', _instruction("ENTRYPOINT")))
HEALTH_CHECK: tuple[str, ...] = tuple(
    re.findall(r'"([^"]+)"', _instruction("HEALTHCHECK").partition("CMD")[2])
)
ENVIRONMENT: dict[str, str] = dict(
    part.split("=", 1) for part in _instruction("ENV").split() if "=" in part
)
"""The image's variables."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things that containers know by a name are on this machine. Longer names count first."""

    names: Mapping[str, str]

    def here(self, text: str) -> str:
        names = sorted(self.names, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, names)), lambda found: self.names[found[0]], text)


@dataclass(frozen=True, slots=True)
class Container:
    """A container of Ingot's image. Its volumes are below `directory`."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    places: Places
    directory: Path

    def program(self, ready: str | None) -> Program:
        """How to run it here; `ready` matches what it prints when it is ready."""
        self.directory.mkdir(exist_ok=True)
        command, *arguments = self._here(self.arguments)
        return Program(
            name=self.name,
            arguments=(_executable(command), *arguments),
            environment=self._variables(),
            ready=None if ready is None else re.compile(ready),
            directory=self.directory,
        )

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in it, such as a probe."""
        executable, *arguments = self._here(command)
        return subprocess.run(
            [_executable(executable), *arguments],
            env={**os.environ, **self._variables()},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    def _variables(self) -> dict[str, str]:
        variables = {**ENVIRONMENT, **self.environment}
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {name: self._places().here(text) for name, text in variables.items()} | {
            "PATH": programs
        }

    def _here(self, texts: Sequence[str]) -> list[str]:
        return [self._places().here(text) for text in texts]

    def _places(self) -> Places:
        own = {
            "/var/lib/ingot": str(self.directory),
            "/tmp/ingot-heartbeat": str(self.directory / "heartbeat"),
        }
        return Places({**own, **self.places.names})


def _executable(command: str) -> str:
    installed = Path(sys.executable).parent / command
    return str(installed) if installed.exists() else command
