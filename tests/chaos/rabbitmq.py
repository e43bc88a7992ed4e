"""RabbitMQ as the broker: a node of its own, whose files and whose epmd end with the run."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TextIO

from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program, SupervisedProgram
from tests.servers import ServerMissing

HOST = "127.0.0.1"
# Debian's script in the PATH becomes another user first.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@asynccontextmanager
async def rabbitmq(directory: Path, log: TextIO) -> AsyncIterator[str]:
    """A node that is restarted when it dies; yields the URL of the broker. Raises ServerMissing."""
    epmd = shutil.which("epmd")
    if epmd is None or not _SERVER.exists():
        raise ServerMissing(f"RabbitMQ is not at {_SERVER}, or epmd is not in the PATH")
    directory.mkdir()
    async with AsyncExitStack() as stack:
        ports = stack.enter_context(Ports())
        port, distribution, names = (ports.reserve(HOST) for _ in range(3))
        environment = {
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"chaos-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_LOGS": "-",
        }
        # Otherwise the node starts a daemon of its own, which would outlive it.
        for program in (
            Program(
                name="epmd",
                arguments=(epmd, "-port", str(names), "-address", HOST),
                environment=environment,
                ready=None,
            ),
            Program(
                name="rabbitmq",
                arguments=("/bin/sh", str(_SERVER)),
                environment=environment,
                ready=re.compile("Server startup complete"),
            ),
        ):
            child = SupervisedProgram(program, log=log)
            child.start()
            stack.push_async_callback(child.stop, 5.0)
            await child.wait_until_ready()
        yield f"amqp://guest:guest@{HOST}:{port}//"
