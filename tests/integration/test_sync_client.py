"""The client for code without asyncio, against a real server in the test's own event loop."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ingot
from ingot import Client, Job, SnapshotEnd, SyncClient
from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_service_pb2 import WatchJobsRequest
from ingot_server.errors import Failure
from tests.scripted_server import (
    JOB_ID,
    MEDIA_ID,
    URL,
    ScriptedServer,
    make_media,
    running_scripted_server,
)
from tests.waiting import until


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedServer, None]:
    async with running_scripted_server() as server:
        yield server


async def in_thread(server: ScriptedServer, use: Callable[[SyncClient], None]) -> None:
    """Use a client in another thread, because the server needs this one."""

    def run() -> None:
        with SyncClient(server.target) as client:
            use(client)

    await asyncio.to_thread(run)


def public_methods(kind: type) -> dict[str, str]:
    """Return the parameters of each public method."""
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {
        name: str(inspect.signature(method).parameters)
        for name, method in methods
        if name == "__init__" or not name.startswith("_")
    }


def test_every_method_of_the_client_is_there_with_its_arguments() -> None:
    assert public_methods(SyncClient) == public_methods(Client)


async def test_a_job_is_watched_and_its_media_downloaded(
    server: ScriptedServer, tmp_path: Path
) -> None:
    content = server.store(900_001)

    def use(client: SyncClient) -> None:
        job = client.ingest_video(URL, labels={"team": "news"})
        assert [update.revision for update in job] == [1, 2, 3, 4, 5, 6]
        assert job.done
        assert job.result().id == MEDIA_ID
        seen: list[int] = []
        client.download(MEDIA_ID, tmp_path / "clip", progress=lambda done, _: seen.append(done))
        assert (tmp_path / "clip").read_bytes() == content
        assert (seen[0], seen[-1]) == (0, len(content))

    await in_thread(server, use)
    assert server.received(IngestRequest)[0].labels == {"team": "news"}


async def test_lists_and_watches_are_ordinary_iterators(server: ScriptedServer) -> None:
    server.media = [make_media(media_id=f"{number:052}") for number in range(450)]

    def use(client: SyncClient) -> None:
        assert [media.id for media in client.list_media()] == [each.id for each in server.media]
        assert [job.id for job in client.jobs()] == [JOB_ID]
        updates = client.watch_jobs()
        first, second = next(updates), next(updates)
        assert isinstance(first, Job)
        assert isinstance(second, SnapshotEnd)
        updates.close()

    await in_thread(server, use)
    assert len(server.received(WatchJobsRequest)) == 1


async def test_errors_are_those_of_the_client(server: ScriptedServer) -> None:
    server.outcomes = [Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, "Not stored.")]

    def use(client: SyncClient) -> None:
        with pytest.raises(ingot.MediaNotFound, match="Not stored"):
            client.media(URL)
        with pytest.raises(ingot.JobNotFound):
            client.job("another")

    await in_thread(server, use)


async def test_threads_share_a_client(server: ScriptedServer) -> None:
    def use(client: SyncClient) -> None:
        with ThreadPoolExecutor(8) as threads:
            results = threads.map(lambda _: client.ingest_video(URL).result().id, range(40))
            assert list(results) == [MEDIA_ID] * 40

    await in_thread(server, use)


async def test_closing_ends_the_thread_and_the_calls_of_other_threads(
    server: ScriptedServer,
) -> None:
    server.outcomes = ["hang"]
    client = SyncClient(server.target).connect()
    call = asyncio.create_task(asyncio.to_thread(client.media, URL))
    await until(lambda: server.requests)

    await asyncio.to_thread(client.close)
    with pytest.raises((RuntimeError, ingot.IngotError)):
        await call
    client.close()
    assert not [each for each in threading.enumerate() if each.name == "ingot-client"]
    with pytest.raises(RuntimeError, match="not connected"):
        client.media(URL)
    with client:
        assert await asyncio.to_thread(client.media, URL) == make_media()


async def test_a_callback_that_calls_the_client_is_refused(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.store(1000)

    def use(client: SyncClient) -> None:
        with pytest.raises(RuntimeError, match="must not call the client"):
            client.download(URL, tmp_path / "clip", progress=lambda *_: client.media(URL) and None)

    await in_thread(server, use)


WATCHING = """
import sys
from ingot import SyncClient

with SyncClient(sys.argv[1]) as client:
    try:
        for update in client.ingest_video("http://origin.test/clip.mp4"):
            print(update.revision, flush=True)
    except KeyboardInterrupt:
        print("interrupted")
        print(client.media("http://origin.test/clip.mp4").title)
"""

NEVER_CLOSED = """
import sys
from ingot import SyncClient

client = SyncClient(sys.argv[1]).connect()
updates = client.watch_jobs()
print(next(updates).id)
"""


async def test_ctrl_c_ends_a_watch_and_the_client_still_works(server: ScriptedServer) -> None:
    server.last_revision = 3
    process = await start_python(server, WATCHING)
    assert process.stdout is not None
    async for line in process.stdout:
        if line == b"3\n":
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = await process.communicate()

    assert (process.returncode, stdout, stderr) == (0, b"interrupted\nClip\n", b"")


async def test_a_script_that_never_closes_the_client_ends_quietly(server: ScriptedServer) -> None:
    process = await start_python(server, NEVER_CLOSED)
    stdout, stderr = await process.communicate()

    assert (process.returncode, stdout, stderr) == (0, f"{JOB_ID}\n".encode(), b"")


async def start_python(server: ScriptedServer, program: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        server.target,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
