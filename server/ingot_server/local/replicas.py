"""Replicas: several API server processes on one address, because one process uses one processor.

The kernel distributes new connections among them (SO_REUSEPORT, socket(7)). One connection stays
with one of them; a caller that needs more throughput opens more connections.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.heartbeat import beating
from ingot_server.local.ports import Ports
from ingot_server.log_events import Event
from ingot_server.process.stop_signals import stop_signals
from ingot_server.process.supervisor import Program, ProgramFailed, SupervisedProgram

logger = EventLogger(__name__)


async def serve_replicas(settings: Settings, metrics_directory: Path | None = None) -> None:
    """Run `settings.processes` API servers until a signal stops them; one that dies is replaced.

    `metrics_directory` is where they keep their metrics, with the workers of `up`. Raises
    SettingError when an address is in use, and Failure when a server does not start.
    """
    with Ports() as ports, tempfile.TemporaryDirectory(prefix="ingot-metrics-") as own:
        # Checked here: with SO_REUSEPORT a server would share the port with another program.
        addresses = {
            name: ports.reserve_address(f"INGOT_{name.upper()}", address)
            for name in ("grpc_address", "http_address", "metrics_address")
            if (address := getattr(settings, name))
        }
        settings = settings.replace(**addresses)
        async with beating(settings, settings.grpc_address):
            await _supervise(settings, metrics_directory or Path(own))


async def _supervise(settings: Settings, metrics_directory: Path) -> None:
    environment = settings.replace(processes=1, heartbeat_file="").environment()
    arguments = (sys.executable, "-m", "ingot_server.cli", "serve", "--reuse-port")
    children = [
        SupervisedProgram(
            Program(
                name=f"serve {number}",
                arguments=(
                    *arguments,
                    *("--metrics-file", str(metrics_directory / f"serve-{number}")),
                ),
                environment=environment,
                ready=re.compile("serving gRPC on"),
            ),
            log=sys.stderr,
            log_format=settings.log_format,
        )
        for number in range(1, settings.processes + 1)
    ]
    stopped = asyncio.Event()
    for signal_number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(signal_number, stopped.set)
    try:
        for child in children:
            child.start()
        await asyncio.gather(*(child.wait_until_ready() for child in children))
        logger.info(Event.SERVING, "serving gRPC on %s", settings.grpc_address)
        await stopped.wait()
    except ProgramFailed as failed:
        raise Failure(reason_pb2.REASON_INTERNAL, str(failed)) from failed
    finally:
        kill_after = settings.shutdown_timeout.total_seconds() + 1
        await asyncio.gather(*(child.stop(kill_after) for child in children))
