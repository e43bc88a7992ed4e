"""A guard on a machine with a public address, in a network namespace where lo has that address.

It prints whether the address can be reached there, and what the guard says to a client.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
from ipaddress import ip_address

from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from tests.integration.egress.running_proxy import FakeResolver, raw_client, serving

# Of Linux, see netdevice(7).
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_IFF_UP = 1


def give_to_loopback(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        packed = struct.pack("=HH4s", socket.AF_INET, 0, ip_address(address).packed)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
        fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16s16s", b"lo:public", packed))


async def main(address: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    names = FakeResolver()
    names.set("mirror.test", [address])
    proxy = EgressProxy(Settings(), resolve=names)
    await proxy.start()
    async with serving(greet, address) as port:
        reader, writer = await asyncio.open_connection(address, port)
        print((await reader.read()).decode())
        writer.close()
        for host in (address, "mirror.test"):
            request = f"GET http://{host}:{port}/ HTTP/1.1"
            async with raw_client(proxy, request) as (reader, _):
                print((await reader.read()).decode().splitlines()[1])
    await proxy.close()


if __name__ == "__main__":
    give_to_loopback(sys.argv[1])
    asyncio.run(main(sys.argv[1]))
