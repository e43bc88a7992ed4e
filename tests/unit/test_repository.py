"""The files that build, check and describe the repository agree with each other."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def prerequisites(target: str) -> set[str]:
    """Return the targets that `make target` makes first."""
    (line,) = re.findall(rf"^{target}:([^#\n]*)", MAKEFILE, flags=re.MULTILINE)
    return set(line.split())


def test_the_commit_hooks_are_what_make_check_runs() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()

    entries = re.findall(r"^ +entry: (.*)$", hooks, flags=re.MULTILINE)

    assert entries
    assert set(entries) == {f"make {target}" for target in prerequisites("check")}


def test_make_check_has_no_commands_of_its_own() -> None:
    assert re.search(r"^check:.*\n\n", MAKEFILE, flags=re.MULTILINE)


def test_make_help_lists_every_target() -> None:
    targets = re.findall(r"^([\w-]+):(?!=)", MAKEFILE, flags=re.MULTILINE)

    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if name != "MAKEFLAGS"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert [line.split()[0] for line in listed.splitlines()] == targets


def test_the_docker_context_holds_what_the_dockerfile_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert set(copied) == {line.removeprefix("!") for line in ignored if line.startswith("!")}


def test_ci_on_the_forge_runs_the_same_script_as_a_machine_at_home() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()

    assert re.findall(r"^ +- run: (.*)$", workflow, flags=re.MULTILINE) == [".ci/run"]
