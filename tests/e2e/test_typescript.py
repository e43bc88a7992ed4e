"""The TypeScript client against a running server: its own tests, and the examples of its README."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from ingot import Client
from tests.conversions import assert_mp3_plays
from tests.installation import Installation
from tests.media import media
from tests.origin import Origin, Page
from tests.programs import find_program

CLIENT = Path(__file__).parents[2] / "clients" / "typescript"

pytestmark = pytest.mark.timeout(300)


def http_address(ingot: Installation) -> str:
    return "http://" + ingot.wait_for(r"^HTTP\s+(\S+)")[1]


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build the client, as the examples import it; once, if several processes run these tests."""
    npm = find_program("npm")
    with (CLIENT / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CLIENT.parent / "node_modules" / ".bin" / "tsc").exists():
            subprocess.run([npm, "ci"], cwd=CLIENT.parent, check=True)
        main = CLIENT / "dist" / "index.js"
        sources = [path.stat().st_mtime for path in (CLIENT / "src").rglob("*.ts")]
        if not main.exists() or main.stat().st_mtime < max(sources):
            subprocess.run([npm, "run", "build"], cwd=CLIENT, check=True)


async def run(program: str, *arguments: str, **environment: str) -> str:
    """Run a program in the folder of the client; return its output."""
    process = await asyncio.create_subprocess_exec(
        find_program(program),
        *arguments,
        cwd=CLIENT,
        env={**os.environ, "NO_COLOR": "1", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def example(name: str, *arguments: str, ingot: Installation) -> str:
    return await run("node", f"examples/{name}", *arguments, INGOT_HTTP=http_address(ingot))


async def test_the_typescript_client_keeps_its_promises_against_a_real_server(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    origin.serve("/clip.mp4", Page(clip))
    origin.serve("/slow.mp4", Page(clip, rate=len(clip) / 2))
    origin.serve("/stuck.mp4", Page(clip, gate=asyncio.Event()))

    output = await run(
        *("npm", "run", "test:server"),
        INGOT_TEST_SERVER=http_address(ingot),
        INGOT_TEST_ORIGIN=origin.base,
        INGOT_TEST_CLIP=str(media("plain.mp4")),
    )

    assert "skipped" not in output


async def test_the_mp3_example_shows_progress_and_saves_an_mp3(
    ingot: Installation, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    url = origin.serve("/ts-example.mp4", Page(clip, rate=len(clip)))
    song = tmp_path / "song.mp3"

    output = await example("mp3.js", url, str(song), ingot=ingot)

    percents = [int(line.split()[-2]) for line in output.splitlines()]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert any(0 < percent < 100 for percent in percents)
    assert_mp3_plays(song)


async def test_the_error_example_decides_by_the_reason(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    stored = origin.serve("/ts-stored.mp4", Page(clip))
    gone = origin.url("/ts-gone.mp4")

    assert "stored" in await example("errors.js", stored, ingot=ingot)
    assert "no media at this link" in await example("errors.js", gone, ingot=ingot)
    assert "wrong input { url:" in await example("errors.js", "file:///etc/passwd", ingot=ingot)
    assert "ADDRESS_FORBIDDEN" in await example("errors.js", "http://10.0.0.1/", ingot=ingot)


async def test_the_watch_example_shows_jobs_until_they_have_ended(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    urls = [origin.serve(f"/ts-watch-{number}.mp4", Page(clip)) for number in range(2)]
    watching = asyncio.create_task(example("watch.js", "ts", "2", ingot=ingot))
    for url in urls:
        await client.ingest_video(url, labels={"batch": "ts"})

    assert (await watching).count("SUCCEEDED") == len(urls)


async def test_the_upload_example_stores_a_file(ingot: Installation) -> None:
    path = media("faststart.mp4")

    output = await example("upload.js", str(path), ingot=ingot)

    assert f"sending {path.stat().st_size} of {path.stat().st_size}" in output
    assert hashlib.sha256(path.read_bytes()).hexdigest() in output.splitlines()[-1]
