"""Whether the egress guard refuses what it must, and whether its upstream proxy can be reached."""

from __future__ import annotations

import asyncio
import base64
from typing import Final
from urllib.parse import unquote, urlsplit

from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.egress.upstream import parse_upstream
from ingot_server.findings import Finding, ok, problem, warning

_SECONDS: Final = 5.0
# Where clouds keep the credentials of their machines.
_FORBIDDEN: Final = "169.254.169.254"
_REFUSED: Final = b"error=destination_ip_prohibited"


async def check_egress(settings: Settings) -> list[Finding]:
    """Ask a guard for a forbidden address, and connect to the upstream proxy, if there is one.

    Raises SettingError for a proxy that is not an address.
    """
    findings = [await _check_guard(settings)]
    if settings.egress_allow_loopback:
        findings.append(
            warning(
                "loopback",
                "URLs may reach this machine's own servers.",
                "Unset INGOT_EGRESS_ALLOW_LOOPBACK, unless you are only trying Ingot out.",
            )
        )
    upstream = parse_upstream(settings.egress_proxy)
    if upstream is not None:
        findings.append(await _check_upstream(upstream.host, upstream.port))
    return findings


async def _check_guard(settings: Settings) -> Finding:
    name = "egress guard"
    # Without the upstream: the guard itself must refuse.
    proxy = EgressProxy(settings.replace(egress_proxy=""))
    await proxy.start()
    try:
        grant = proxy.grant("doctor")
        parts = urlsplit(grant.proxy_url)
        user = f"{unquote(parts.username or '')}:{parts.password}"
        credentials = base64.b64encode(user.encode()).decode()
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(
                f"GET http://{_FORBIDDEN}/ HTTP/1.1\r\nHost: {_FORBIDDEN}\r\n"
                f"Proxy-Authorization: Basic {credentials}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        return problem(
            name,
            f"The guard does not respond on loopback ({str(error) or 'no response'}).",
            "Allow connections from 127.0.0.1 to 127.0.0.1.",
        )
    finally:
        await proxy.close()
    if _REFUSED not in head:
        return problem(
            name,
            f"The guard does not refuse {_FORBIDDEN}.",
            "This is a defect of Ingot: report it, and run no worker.",
        )
    return ok(name, "The guard refuses private addresses.")


async def _check_upstream(host: str, port: int) -> Finding:
    name = "egress proxy"
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        return problem(
            name,
            f"The proxy at {host}:{port} cannot be reached ({str(error) or 'no response'}), so no "
            "source can.",
            "Check that it runs, and INGOT_EGRESS_PROXY.",
        )
    return ok(name, f"The proxy at {host}:{port} accepts connections.")
