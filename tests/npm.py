"""The npm packages in clients/, installed and built when a test first needs them."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

from tests.programs import find_program

CLIENTS = Path(__file__).parents[1] / "clients"


def install_packages() -> Path:
    """Install what the lock names, unless it is there; return the folder `node_modules`.

    Without Node the test is skipped, or fails with REQUIRE_ALL_SERVERS.
    """
    npm = find_program("npm")
    with (CLIENTS / "package-lock.json").open() as lock:
        # One process at a time; the others find the packages.
        fcntl.flock(lock, fcntl.LOCK_EX)
        modules = CLIENTS / "node_modules"
        installed = modules / ".package-lock.json"
        if (
            not installed.exists()
            or installed.stat().st_mtime < (CLIENTS / "package-lock.json").stat().st_mtime
        ):
            subprocess.run([npm, "ci", "--silent"], cwd=CLIENTS, check=True)
        return modules


def build_typescript_client() -> Path:
    """Build the package @ingot/client; return the folder `node_modules` that has it."""
    modules = install_packages()
    with (CLIENTS / "typescript" / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [find_program("npm"), "run", "--silent", "build"],
            cwd=CLIENTS / "typescript",
            check=True,
        )
    return modules
