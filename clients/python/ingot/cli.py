"""The command `ingot`: read the command line, run the command, return its exit code.

0 is success, 1 failure or not found, 2 wrong usage, 130 ended by Ctrl-C, 141 a closed output pipe.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ingot.arguments import DEFAULT_SERVER, build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default that of the program, and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    options.server = getattr(options, "server", "") or os.environ.get("INGOT_SERVER", "")
    options.server = options.server or DEFAULT_SERVER
    options.json = getattr(options, "json", False)
    options.quiet = getattr(options, "quiet", False)
    if not re.fullmatch(r"unix:.+|(\[[0-9A-Fa-f:.]+\]|[^:/\s]+):\d{1,5}", options.server):
        parser.error(
            f"the server is given as HOST:PORT, such as {DEFAULT_SERVER}, not {options.server!r}"
        )

    _prepare_output()
    # gRPC would otherwise write its own log between the lines of a command while a server restarts.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ingot import commands  # gRPC is slow to load, and `--help` does not need it

    try:
        return asyncio.run(commands.run_command(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes stdout when it exits, and would report the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _prepare_output() -> None:
    """Keep the program from failing because of a closed output or an unprintable character."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the program was started with this output closed
            devnull = Path(os.devnull).open("w")  # noqa: SIM115 - until the program ends
            setattr(sys, name, devnull)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A title may have characters that the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
