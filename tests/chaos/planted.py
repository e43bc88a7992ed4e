"""Planted bugs: each undoes one guard of a copy of the product, and the suite must find it.

    python -m tests.chaos.planted               all of them, and a run without a bug
    python -m tests.chaos.planted tombstone     some of them

Each bug has the faults and times that aim at it, so that it shows within a minute or two, and the
claim that it must break: only that one counts. The exit code is 1 if a bug was not found within its
seeds, or if a promise is broken without one, and 143 if SIGTERM has stopped the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.planted_bugs import BUGS, PlantedBug

ROOT = Path(__file__).parents[2]
_RUN_SECONDS = 400.0


class EditFailed(Exception):
    """The text that an edit replaces is not there exactly once: the product has changed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the suite said of a bug."""

    name: str
    is_expected: bool
    """Whether it broke its claim, or none if it is no bug."""
    claims: tuple[str, ...]
    """All promises that the last run found broken."""
    seeds: int
    """How many runs it took."""
    seconds: float


def plant(bug: PlantedBug, tree: Path) -> None:
    """Undo the guard in a copy of the tree. Raises EditFailed."""
    for edit in bug.edits:
        path = tree / "server" / "ingot_server" / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise EditFailed(
                f"{bug.name}: {edit.file} has {text.count(edit.old)} times\n{edit.old}\n"
                "Say in planted_bugs.py how this guard is undone now."
            )
        path.write_text(text.replace(edit.old, edit.new))


def copy_of_the_tree(directory: Path) -> Path:
    """A copy of what runs, where bugs can be planted."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("server", "clients/python", "tests"):
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    return directory


def try_to_find(bug: PlantedBug) -> Outcome:
    """Run the suite on a copy with the bug, one seed after another, until its claim is broken."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ingot-planted-") as directory:
        tree = copy_of_the_tree(Path(directory))
        plant(bug, tree)
        runs, is_expected = 0, False
        while runs < len(bug.seeds) and not is_expected:
            seed = bug.seeds[runs]
            runs += 1
            claims = _broken_claims(bug, seed, tree)
            broken = ", ".join(claims) or "nothing"
            print(f"planted {bug.name}, seed {seed}: {broken}", file=sys.stderr, flush=True)
            is_expected = bug.breaks in claims if bug.breaks else not claims
    return Outcome(bug.name, is_expected, claims, runs, time.monotonic() - begin)


def _broken_claims(bug: PlantedBug, seed: int, tree: Path) -> tuple[str, ...]:
    plan = json.dumps({"seed": seed, **bug.plan})
    paths = os.pathsep.join(str(tree / name) for name in ("server", "clients/python", "."))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.planted_run", plan],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            output, errors = run.communicate(timeout=_RUN_SECONDS)
        except BaseException:
            # SIGTERM has it stop its processes; SIGKILL would leave them.
            run.terminate()
            run.communicate()
            raise
    if run.returncode != 0:
        raise RuntimeError(f"{bug.name}: the suite failed:\n{errors[-4000:]}")
    found: list[str] = json.loads(output.splitlines()[-1])
    return tuple(found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.planted")
    parser.add_argument("names", nargs="*", help="bugs to plant; without any, all of them")
    names = parser.parse_args().names
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = [bug for bug in BUGS if not names or bug.name in names]
    missed = 0
    for bug in chosen:
        outcome = try_to_find(bug)
        missed += not outcome.is_expected
        verdict = ", ".join(outcome.claims) or "no promise is broken"
        mark = "ok    " if outcome.is_expected else "MISSED"
        print(
            f"{mark} {bug.name}: {verdict} ({outcome.seeds} runs, {outcome.seconds:.0f} s)",
            flush=True,
        )
    print(f"{len(chosen) - missed} of {len(chosen)} as expected")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
