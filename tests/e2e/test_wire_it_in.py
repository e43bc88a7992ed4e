"""The programs of docs/wire-it-in.md, each as it is there, against a running server."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.conversions import assert_mp3_plays
from tests.documented_pages import ROOT
from tests.installation import Installation
from tests.npm import build_typescript_client
from tests.origin import Origin, Page
from tests.programs import find_program

GUIDE = (ROOT / "docs/wire-it-in.md").read_text()

# The first build of Go compiles gRPC.
pytestmark = pytest.mark.timeout(500)


async def run(*command: str | Path, directory: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def run_python(program: Path) -> str:
    return await run(sys.executable, program, directory=program.parent)


async def run_typescript(program: Path) -> str:
    """Compile it strictly, then run it with Node."""
    directory = program.parent
    modules = build_typescript_client()
    (directory / "node_modules").symlink_to(modules)
    (directory / "package.json").write_text('{"type": "module"}')
    compiler = modules / ".bin" / "tsc"
    options = "--strict --noUncheckedIndexedAccess --module nodenext --target es2022 --types node"
    await run(compiler, *options.split(), program, directory=directory)
    return await run(find_program("node"), program.with_suffix(".js"), directory=directory)


async def run_go(program: Path) -> str:
    """Compile it in the module of the client, then run it where its file is."""
    binary = program.with_suffix("")
    module = ROOT / "clients/go"
    await run(find_program("go"), "build", "-o", binary, program, directory=module)
    return await run(binary, directory=program.parent)


async def run_bash(program: Path) -> str:
    for needed in ("curl", "jq"):
        find_program(needed)
    return await run("bash", "-euo", "pipefail", program, directory=program.parent)


@pytest.mark.parametrize(
    ("language", "suffix", "run_program", "progress"),
    [
        ("python", ".py", run_python, "DOWNLOADING"),
        ("typescript", ".ts", run_typescript, "DOWNLOADING"),
        ("go", ".go", run_go, "DOWNLOADING"),
        ("bash", ".sh", run_bash, "JOB_STATE_QUEUED"),  # it asks once a second
    ],
    ids=["python", "typescript", "go", "curl"],
)
async def test_a_program_of_the_guide_saves_an_mp3_and_says_why_it_has_none(
    language: str,
    suffix: str,
    run_program: Callable[[Path], Awaitable[str]],
    progress: str,
    ingot: Installation,
    origin: Origin,
    clip: bytes,
    tmp_path: Path,
) -> None:
    origin.serve(f"/{language}/clip.mp4", Page(clip, rate=len(clip)))
    text = "\n".join(re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL))
    for word, value in {
        "https://example.com": f"{origin.base}/{language}",
        "localhost:50051": ingot.grpc_address,
        "localhost:8080": ingot.wait_for(r"^HTTP\s+(\S+)")[1],
    }.items():
        assert word in GUIDE
        text = text.replace(word, value)
    program = tmp_path / f"program{suffix}"
    program.write_text(text)

    output = await run_program(program)

    assert progress in output
    assert "saved song.mp3" in output
    assert "not available: 127.0.0.1 does not have this file" in output
    assert_mp3_plays(tmp_path / "song.mp3")
    assert not (tmp_path / "missing.mp3").exists()


def test_the_guide_has_every_step_in_every_language() -> None:
    steps = GUIDE.split("\n## ")[1:]
    languages = [re.findall(r"```(\w+)\n", step) for step in steps]

    assert languages == [["python", "typescript", "go", "bash"]] * 4
