"""The Go client and its example, against a running server."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.conversions import assert_mp3_plays
from tests.installation import Installation
from tests.origin import Origin, Page
from tests.programs import find_program

MODULE = Path(__file__).parents[2] / "clients" / "go"

# The first build compiles gRPC.
pytestmark = pytest.mark.timeout(500)


async def go(*arguments: str, **environment: str) -> str:
    """Run `go` in the module of the client; return its output."""
    process = await asyncio.create_subprocess_exec(
        find_program("go"),
        *arguments,
        cwd=MODULE,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_the_go_client_keeps_its_promises_against_a_real_server(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    origin.serve("/clip.mp4", Page(clip))
    origin.serve("/labelled.mp4", Page(clip))
    origin.serve("/slow.mp4", Page(clip, rate=len(clip) / 2))
    origin.serve("/stuck.mp4", Page(clip, gate=asyncio.Event()))

    output = await go(
        *("test", "-count=1", "-v", "-run=^TestServer", "./ingot"),
        INGOT_TEST_SERVER=ingot.grpc_address,
        INGOT_TEST_ORIGIN=origin.base,
    )

    assert "--- SKIP" not in output
    assert output.count("--- PASS: TestServer") >= 7


async def test_the_go_example_shows_progress_and_saves_an_mp3(
    ingot: Installation, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    url = origin.serve("/go-example.mp4", Page(clip, rate=len(clip)))
    song = tmp_path / "song.mp3"

    output = await go(
        "run", "./examples/ingest", "-server", ingot.grpc_address, "-mp3", str(song), url
    )

    lines = output.splitlines()
    shares = [int(line.partition("%")[0]) for line in lines[:-1]]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert len({*shares}) > 3, output
    assert "video/mp4" in lines[-1]
    assert_mp3_plays(song)


async def test_the_program_in_the_readme_works(
    ingot: Installation, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    url = origin.serve("/go-readme.mp4", Page(clip, rate=len(clip)))
    (text,) = re.findall(
        r"```go\n(package main\n.*?)```", (MODULE / "README.md").read_text(), re.DOTALL
    )
    program = tmp_path / "main.go"
    text = text.replace("https://example.com/clip.mp4", url)
    program.write_text(text.replace("localhost:50051", ingot.grpc_address))

    output = await go("run", str(program))

    assert "JOB_STAGE_DOWNLOADING" in output
    assert str(len(clip)) in output.splitlines()[-1]
