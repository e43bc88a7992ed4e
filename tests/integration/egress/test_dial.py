"""Dialling several addresses of one host."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import closing
from ipaddress import ip_address

from ingot_server.egress.dial import connect

SILENT, ANSWERING = "127.0.0.2", "127.0.0.1"


async def test_a_dial_that_is_cancelled_at_any_moment_leaves_no_socket() -> None:
    loop = asyncio.get_running_loop()
    with (
        closing(socket.create_server((ANSWERING, 0))) as answering,
        closing(socket.socket()) as silent,
        closing(socket.socket()) as waiting,
    ):
        port = answering.getsockname()[1]
        silent.bind((SILENT, port))
        silent.listen(0)
        waiting.connect((SILENT, port))  # the queue is full: whoever comes next is not answered
        for moments in range(20):
            addresses = [ip_address(SILENT), ip_address(ANSWERING)]
            dial = asyncio.create_task(connect(addresses, port, deadline=loop.time() + 60))
            accepted, _ = await asyncio.to_thread(answering.accept)
            accepted.close()
            for _ in range(moments):
                await asyncio.sleep(0)
            dial.cancel()
            await asyncio.wait([dial])
            if not dial.cancelled():
                dial.result().close()
    gc.collect()  # a socket that is collected unclosed is a warning, so an error
