"""The command `ingot-server`. The only place that reads the environment and that exits."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from ingot_server.config import PREFIX, SettingError, Settings
from ingot_server.errors import Failure, reason_name

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; exits with 1 when it failed and 2 when it was used wrongly."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        environment = {**os.environ, **_flags(options)}
        settings = Settings.from_environment(environment)
        for name in Settings.unknown(environment):
            logger.warning("%s is no setting of Ingot; docs/settings.md lists all", name)
        if options.command == "up":
            _up(settings, Settings.given(environment))
        elif options.command == "serve":
            _serve(settings, reuse_port=options.reuse_port)
        else:
            _worker(settings, converts=options.convert)
    except SettingError as error:
        print(f"ingot-server: {error}", file=sys.stderr)
        sys.exit(2)
    except Failure as failure:
        print(f"ingot-server: {reason_name(failure.reason)}: {failure.message}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ingot-server",
        description="Ingot, the media ingest service.",
        epilog="Every setting is an environment variable; docs/settings.md lists them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    addresses = argparse.ArgumentParser(add_help=False)
    addresses.add_argument(
        "--grpc-address",
        metavar="HOST:PORT",
        help="where to listen for gRPC; port 0 takes a free one",
    )
    addresses.add_argument(
        "--http-address",
        metavar="HOST:PORT",
        help="where to listen for browsers and HTTP; port 0 takes a free one, '' is nowhere",
    )

    up = commands.add_parser(
        "up", parents=[addresses], help="run everything on this machine: stores, workers, API"
    )
    up.add_argument("--data-dir", type=Path, metavar="DIR", help="where the stores keep their data")
    up.add_argument("--workers", type=int, metavar="N", help="worker processes")

    serve = commands.add_parser("serve", parents=[addresses], help="run the API server")
    serve.add_argument("--processes", type=int, metavar="N", help="processes that share the port")
    serve.add_argument("--reuse-port", action="store_true", help=argparse.SUPPRESS)

    worker = commands.add_parser("worker", help="run a worker: it takes all jobs but conversions")
    worker.add_argument("--convert", action="store_true", help="take conversions and nothing else")
    return parser


def _flags(options: argparse.Namespace) -> dict[str, str]:
    """The settings that were given as flags, as the variables they stand for."""
    return {
        PREFIX + name.upper(): str(value)
        for name, value in vars(options).items()
        if name not in {"command", "reuse_port", "convert"} and value is not None
    }


def _up(settings: Settings, given: Collection[str]) -> None:
    from ingot_server import embedded

    asyncio.run(embedded.up(settings, given))


def _serve(settings: Settings, *, reuse_port: bool) -> None:
    from ingot_server import app, replicas

    if settings.processes > 1:
        asyncio.run(replicas.serve(settings))
    else:
        asyncio.run(app.serve(settings, reuse_port=reuse_port))


def _worker(settings: Settings, *, converts: bool) -> None:
    from ingot_server import worker

    worker.main(settings, converts=converts)


if __name__ == "__main__":
    main()
