"""Workers and API servers that are started before their Redis can be used wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis import exceptions

from ingot_server import app
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.records import Records
from ingot_server.local.local_servers import redis_program, valkey_executable
from ingot_server.process.launch import launch_command
from ingot_server.redis import Redis, connect
from ingot_server.worker import Worker
from tests.records import new_job
from tests.servers import START_SECONDS, process
from tests.waiting import until

WAITS = "Redis cannot be used, Ingot waits for it"
# Redis waits 20 ms for each key that it loads, until the delay is taken back, and handles events
# meanwhile.
_SLOW = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
_KEYS = 3000
_VALUE_BYTES = 2048


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where Redis is. A socket's path may be no longer than 104 bytes."""
    with TemporaryDirectory(prefix="ingot-") as folder:
        yield Path(folder)


@pytest.fixture
def late_settings(settings: Settings, directory: Path) -> Settings:
    """Settings of a Redis that does not run yet."""
    return settings.replace(redis_url=f"unix://{directory}/redis.sock")


async def start_worker(settings: Settings) -> None:
    worker = Worker(settings)
    try:
        await worker.start()
    finally:
        await worker.stop()


async def start_server(settings: Settings) -> None:
    async with app.running(settings):
        pass


@contextlib.contextmanager
def loading_redis(directory: Path) -> Iterator[None]:
    """A Redis that loads its data slowly."""
    program = redis_program(valkey_executable(), directory, directory / "redis.sock")
    child = subprocess.Popen(launch_command(*program.arguments, *_SLOW), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def fill(redis: Redis) -> None:
    async with redis.pipeline() as pipeline:
        for number in range(_KEYS):
            pipeline.set(redis.key(f"filling:{number}"), os.urandom(_VALUE_BYTES))
        await pipeline.execute()
    # Events are handled while a snapshot is loaded; among the commands after it they are not.
    await redis.bgrewriteaof()
    async with asyncio.timeout(START_SECONDS):
        while (await redis.info("persistence"))["aof_rewrite_in_progress"]:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)


async def begins_to_load(redis: Redis) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                await redis.ping()
            except exceptions.BusyLoadingError:
                return
            except exceptions.ConnectionError:
                await asyncio.sleep(0.01)  # it does not listen yet


@pytest.mark.parametrize("start", [start_worker, start_server])
async def test_a_process_starts_when_its_redis_does(
    start: Callable[[Settings], Awaitable[None]],
    late_settings: Settings,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    starting = asyncio.ensure_future(start(late_settings))
    await until(lambda: WAITS in caplog.text)
    with process(redis_program(valkey_executable(), directory, directory / "redis.sock")):
        async with asyncio.timeout(START_SECONDS):
            await starting


async def test_a_worker_waits_until_redis_has_loaded_its_data(
    late_settings: Settings, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(late_settings) as redis:
        with process(redis_program(valkey_executable(), directory, directory / "redis.sock")):
            job = (await Records(redis, late_settings).create(new_job())).job
            await fill(redis)
        with loading_redis(directory):
            await begins_to_load(redis)
            worker = Worker(late_settings)
            starting = asyncio.create_task(worker.start())
            try:
                await until(lambda: WAITS in caplog.text)
                assert "loading the dataset" in caplog.text
                await redis.config_set("key-load-delay", 0)
                async with asyncio.timeout(START_SECONDS):
                    await starting
                assert await Records(redis, late_settings).get(job.id) is not None
            finally:
                await worker.stop()


async def test_a_redis_that_refuses_the_password_ends_the_start(
    late_settings: Settings, directory: Path
) -> None:
    with process(redis_program(valkey_executable(), directory, directory / "redis.sock")):
        async with connect(late_settings) as redis:
            await redis.config_set("requirepass", "secret")
        with pytest.raises(Failure, match="Redis cannot be used"):
            await start_worker(late_settings)
