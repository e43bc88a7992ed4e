"""The npm packages in clients/, installed and built when a test first needs them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
from pathlib import Path

from tests.programs import find_program

CLIENTS = Path(__file__).parents[1] / "clients"
TYPESCRIPT = CLIENTS / "typescript"


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
    """Build the package @ingot/client if its sources have changed; return `node_modules`."""
    modules = install_packages()
    sources = [path.stat().st_mtime for path in (TYPESCRIPT / "src").rglob("*.ts")]
    with (TYPESCRIPT / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = TYPESCRIPT / "dist" / "index.js"
        if not built.exists() or built.stat().st_mtime < max(sources):
            npm = find_program("npm")
            subprocess.run([npm, "run", "--silent", "build"], cwd=TYPESCRIPT, check=True)
    return modules


async def run_node(program: str, *arguments: str, **environment: str) -> str:
    """Run node, npm or npx in the folder of the TypeScript client; return the output."""
    process = await asyncio.create_subprocess_exec(
        find_program(program),
        *arguments,
        cwd=TYPESCRIPT,
        env={**os.environ, "NO_COLOR": "1", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def run_example(name: str, *arguments: str, **environment: str) -> str:
    """Run an example of the TypeScript client, which has to be built; return its output."""
    return await run_node("node", f"examples/{name}", *arguments, **environment)
