"""The queue on a real Redis, with a real Celery worker in a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.process.launch import launch_command
from tests.waiting import TIMEOUT_SECONDS

WORKER = """
import os
import time
from ingot_server.config import Settings
from ingot_server.jobs.queue import TASK_NAME, celery_app

app = celery_app(Settings.from_environment(os.environ), "worker")

@app.task(name=TASK_NAME)
def run_job(job_id):
    print(job_id, flush=True)
    if job_id == "long":
        time.sleep(600)

app.worker_main(["--quiet", "worker", "--pool=threads", "--concurrency=1", "--without-gossip",
                 "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"])
"""


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Queue]:
    queue = Queue(celery_app(settings))
    yield queue
    await queue.close()


async def test_a_worker_receives_what_is_sent_to_it_and_nothing_else(
    settings: Settings, queue: Queue, redis: Redis, tmp_path: Path
) -> None:
    await queue.send("for another", "another")
    for name in ("one", "two"):
        await queue.send(name, "worker")
    worker = await asyncio.create_subprocess_exec(
        *launch_command(sys.executable, "-c", WORKER),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **settings.environment()},
        cwd=tmp_path,
    )
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            received = [(await worker.stdout.readline()).decode().strip() for _ in range(2)]
            await queue.send("long", "worker")
            received.append((await worker.stdout.readline()).decode().strip())
            # A message is acknowledged when its job starts: leases recover the job.
            while await redis.hlen("ingot:queue:unacked"):  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.05)
    finally:
        worker.kill()
        await worker.communicate()
    assert received == ["one", "two", "long"]
    assert await redis.llen("ingot:queue:ingot.another") == 1


@pytest.mark.parametrize(("declares", "commands"), [(False, set()), (True, {"llen", "pexpire"})])
async def test_a_message_declares_its_queue_only_if_it_must(
    settings: Settings, redis: Redis, declares: bool, commands: set[str]
) -> None:
    await redis.config_resetstat()
    queue = Queue(celery_app(settings), declares=declares)
    await queue.send("job", "worker")
    await queue.close()
    used = {name.removeprefix("cmdstat_") for name in await redis.info("commandstats")}
    assert used & {"lpush", "llen", "pexpire"} == {"lpush"} | commands


SENDER = """
import asyncio, os, sys
from ingot_server.config import Settings
from ingot_server.jobs.queue import Queue, celery_app

async def main():
    queue = Queue(celery_app(Settings.from_environment(os.environ)))
    before = set(sys.modules)
    await queue.send("job", "worker")
    print(*set(sys.modules) - before)
    await queue.close()

asyncio.run(main())
"""


async def test_a_caller_waits_only_for_the_broker(settings: Settings, tmp_path: Path) -> None:
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SENDER),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings.environment()},
        cwd=tmp_path,
    )
    output, _ = await sender.communicate()
    assert sender.returncode == 0
    late = [name for name in output.decode().split() if name.startswith(("celery", "kombu"))]
    assert not late


async def test_a_connection_broken_while_idle_is_replaced(settings: Settings, queue: Queue) -> None:
    await queue.send("one", "worker")
    async with Redis.from_url(settings.redis_url) as redis:
        await redis.client_kill_filter(_type="normal", skipme=True)
        await queue.send("two", "worker")
        assert await redis.llen("ingot:queue:ingot.worker") == 2


@pytest.mark.parametrize(
    "broker_url", ["unix:///nowhere/redis.sock", "redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"]
)
async def test_a_broker_that_is_down(settings: Settings, broker_url: str) -> None:
    queue = Queue(celery_app(settings.replace(broker_url=broker_url)))
    with pytest.raises(Failure) as caught:
        await queue.send("job", "worker")
    assert caught.value.reason == reason_pb2.REASON_QUEUE_UNAVAILABLE
    await queue.close()


async def test_a_broker_that_never_responds(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        queue = Queue(celery_app(settings.replace(broker_url=f"redis://127.0.0.1:{port}/0")))
        with pytest.raises(Failure) as caught:
            await queue.send("job", "worker")
        assert caught.value.reason == reason_pb2.REASON_QUEUE_UNAVAILABLE
        await queue.close()
