"""Servers and workers are upgraded from the release before, in either order, under load.

The wheels of that release are in tests/kept, so what runs beside this version is what was released.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytest

from ingot import Client
from ingot_server.process.launch import launch_command
from tests.installation import QUICK_SETTINGS
from tests.kept_release import KEPT
from tests.origin import Origin, Page
from tests.recipes import make_recipe
from tests.servers import Stores, stores
from tests.waiting import JOB_SECONDS, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# A few run at any time, and some are always on their way when a process is replaced.
PACE_SECONDS: Final = 1.0
PER_STAGE: Final = 2


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the release before, and what this version depends on."""
    environment = tmp_path_factory.mktemp("old") / "venv"
    python = environment / "bin" / "python"
    wheels = [str(wheel) for wheel in KEPT.glob("*/*.whl")]
    assert len(wheels) == 2, "the wheels of one release are kept"
    subprocess.run(["uv", "--quiet", "venv", "--python", sys.executable, environment], check=True)
    subprocess.run(
        ["uv", "--quiet", "pip", "install", "--no-deps", "--python", python, *wheels], check=True
    )
    # What is installed in there editable does not come along.
    [site] = environment.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(python)


@pytest.fixture(scope="module")
def running_stores() -> Iterator[Stores]:
    with stores("valkey-seaweedfs") as running:
        yield running


class Process:
    """A server or worker of one version."""

    def __init__(self, python: str, folder: Path, running: Stores, *command: str) -> None:
        self.log = folder / f"{'-'.join(command[:1])}-{len(list(folder.iterdir()))}.log"
        settings = {name.upper(): value for name, value in asdict(running).items()}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                launch_command(python, "-m", "ingot_server.cli", *command),
                stderr=log,
                env={
                    **{name: text for name, text in os.environ.items() if name[:6] != "INGOT_"},
                    **QUICK_SETTINGS,
                    "INGOT_HTTP_ADDRESS": "",
                    "INGOT_EXTRACTOR_PREWARM": "off",
                    "INGOT_SCRATCH_DIR": str(folder / "scratch"),
                    **{f"INGOT_{name}": value for name, value in settings.items()},
                },
            )
        self.pid = self._process.pid

    async def address(self) -> str:
        """Where a server listens for gRPC, when it does."""
        async with asyncio.timeout(JOB_SECONDS):
            while not (self.has_ended or "serving gRPC on" in self.log.read_text()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        found = re.search(r"serving gRPC on (\S+)", self.log.read_text())
        assert found, self.log.read_text()
        return found[1]

    async def works(self, client: Client) -> None:
        """Waits until a worker has reported itself."""
        async with asyncio.timeout(JOB_SECONDS):
            while not any(
                each.id.endswith(f":{self.pid}") for each in (await client.system()).workers
            ):
                assert not self.has_ended, self.log.read_text()
                await asyncio.sleep(0.1)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    async def stop(self) -> None:
        """Ends it as an upgrade does."""
        self._process.terminate()
        await until(lambda: self.has_ended)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Load:
    """A caller that keeps asking for new media items, at the server that it is told."""

    def __init__(self, client: Client, origin: Origin, clip: bytes, label: str) -> None:
        self.client = client
        self.labels = {"first": label}
        self.accepted: list[str] = []
        self._origin = origin
        self._clip = clip
        self._ends = False

    async def run(self) -> None:
        while not self._ends:
            number = len(self.accepted)
            page = Page(self._clip, rate=len(self._clip))
            url = self._origin.serve(f"/{self.labels['first']}-{number}.mp4", page)
            recipes = [] if number % 5 else [make_recipe("mp3")]
            job = await self.client.ingest_video(url, recipes=recipes, labels=self.labels)
            self.accepted.append(job.id)
            await asyncio.sleep(PACE_SECONDS)

    async def goes_on(self) -> None:
        """Waits until some more jobs were accepted."""
        wanted = len(self.accepted) + PER_STAGE
        await until(lambda: len(self.accepted) >= wanted)

    def end(self) -> None:
        self._ends = True


@pytest.mark.parametrize("first", ["workers", "servers"])
async def test_nothing_is_lost(
    first: str,
    old_python: str,
    running_stores: Stores,
    origin: Origin,
    clip: bytes,
    tmp_path: Path,
) -> None:
    serve, work = ("serve", "--grpc-address", "127.0.0.1:0"), ("worker", "--all")

    def start(python: str, *command: str) -> Process:
        process = Process(python, tmp_path, running_stores, *command)
        running.callback(process.kill)
        return process

    with contextlib.ExitStack() as running:
        async with contextlib.AsyncExitStack() as connections, asyncio.TaskGroup() as tasks:
            server, worker = start(old_python, *serve), start(old_python, *work)
            client = Client(await server.address())
            load = Load(await connections.enter_async_context(client), origin, clip, first)
            await worker.works(load.client)
            asking = tasks.create_task(load.run())
            await load.goes_on()

            async def upgrade_worker() -> None:
                new = start(sys.executable, *work)
                await new.works(load.client)
                await load.goes_on()
                await worker.stop()
                await load.goes_on()

            async def upgrade_server() -> None:
                new = Client(await start(sys.executable, *serve).address())
                load.client = await connections.enter_async_context(new)
                await load.goes_on()
                await server.stop()
                await load.goes_on()

            upgrades = [upgrade_worker, upgrade_server]
            for upgrade in upgrades if first == "workers" else reversed(upgrades):
                await upgrade()
            load.end()
            await asking

            async with asyncio.timeout(JOB_SECONDS):
                # A job that has failed raises why.
                made = [await (await load.client.job(job_id)) for job_id in load.accepted]
            stored = [media async for media in load.client.list_media(labels=load.labels)]

    ingested = [each for each in stored if not each.derived_from_media_id]
    assert {each.id for each in made} == {each.id for each in ingested}
    assert len(ingested) == len(made)
    assert {each.blob.size_bytes for each in ingested} == {len(clip)}
    assert len(stored) - len(ingested) == len(range(0, len(made), 5))
