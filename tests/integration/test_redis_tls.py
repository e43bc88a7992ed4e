"""Redis behind TLS that requires a certificate, as URLs in the settings describe it."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.queue import Queue, celery_app, check_broker
from ingot_server.local.local_servers import HOST
from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program
from ingot_server.redis import connect, unavailable
from tests.certificates import Authority
from tests.servers import ServerMissing, process, redis_executable

pytestmark = pytest.mark.any_stores


async def test_redis_and_the_queue_work_with_a_private_authority_and_a_certificate(
    tmp_path: Path,
) -> None:
    try:
        executable = redis_executable()  # the embedded one has no TLS
    except ServerMissing as missing:
        if os.environ.get("REQUIRE_ALL_SERVERS"):
            raise
        pytest.skip(str(missing))
    authority = Authority(tmp_path)
    server, own = authority.issue("redis"), authority.issue("ingot")
    with Ports() as ports:
        port = ports.reserve(HOST)
        program = Program(
            name="redis",
            arguments=(
                *(str(executable), "--port", "0", "--tls-port", str(port), "--save", ""),
                *("--tls-cert-file", str(server.certificate), "--tls-key-file", str(server.key)),
                *("--tls-ca-cert-file", str(authority.file), "--dir", str(tmp_path)),
            ),
            ready=re.compile("ready to accept connections", re.IGNORECASE),
        )
        url = f"rediss://{HOST}:{port}/0?ssl_ca_certs={authority.file}"
        full = Settings(redis_url=f"{url}&ssl_certfile={own.certificate}&ssl_keyfile={own.key}")
        with process(program):
            async with connect(Settings(redis_url=url)) as anonymous:
                with pytest.raises(Failure), unavailable():
                    await anonymous.ping()
            async with connect(full) as redis:
                assert await redis.ping()
            await asyncio.to_thread(check_broker, full)
            queue = Queue(celery_app(full))
            await queue.send("job", "worker")
            await queue.close()
            async with connect(full) as redis:
                assert await redis.llen(redis.key("queue:ingot.worker")) == 1
