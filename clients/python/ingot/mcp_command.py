"""The command `mcp`: a server of the Model Context Protocol, whose tools agents call.

It needs the extra `ingot-client[mcp]`; this module does not load it.
"""

from __future__ import annotations

import argparse
import socket
import sys
from argparse import Namespace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ingot.client import Client

PATH: Final = "/mcp"
"""Where the HTTP server answers."""

MISSING: Final = (
    "ingot: The command `mcp` needs the Python package mcp, which is not installed.\n"
    "Install it with `pip install 'ingot-client[mcp]'`.\n"
)


def add_mcp(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mcp`."""
    parser.add_argument(
        "--http",
        type=_parse_address,
        metavar="HOST:PORT",
        help=f"listen there, and serve http://HOST:PORT{PATH} (default: stdin and stdout)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="with --http, also answer requests to this host, as their header Host has it;"
        " repeatable (default: only localhost, 127.0.0.1 and [::1])",
    )


async def serve_agents(client: Client, options: Namespace) -> bool:
    """Serve the tools until stdin ends, or with `--http` until Ctrl-C.

    Returns False if the extra is not installed. Raises OSError if the address cannot be used.
    """
    if find_spec("mcp") is None:
        sys.stderr.write(MISSING)
        return False
    from ingot.agent_tools import make_server, serve_http

    server = make_server(client, options.server)
    if options.http is None:
        await server.run_stdio_async()
        return True
    try:
        listening = socket.create_server(options.http, family=_family(options.http[0]))
    except OSError as error:
        error.add_note("Give --http an address of this machine that is not in use.")
        raise
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"Serving MCP at http://{shown}:{port}{PATH}\n")
    sys.stderr.flush()
    await serve_http(server, listening, PATH, options.allow_host)
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _parse_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
