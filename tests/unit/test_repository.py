"""The files that build, check and describe the repository agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_docker_context_holds_what_the_dockerfile_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert set(copied) == {line.removeprefix("!") for line in ignored if line.startswith("!")}


def test_ci_on_the_forge_runs_the_same_script_as_a_machine_at_home() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()

    assert re.findall(r"^ +- run: (.*)$", workflow, flags=re.MULTILINE) == [".ci/run"]
