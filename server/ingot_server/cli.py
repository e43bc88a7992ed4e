"""The command `ingot-server`. The only place that reads the environment and that exits."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingot_server.api.exposure import require_guarded, require_guarded_metrics
from ingot_server.backup import command as backup_command
from ingot_server.caller_limits import LIMITS
from ingot_server.config import PREFIX, Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger, JsonFormatter, TextFormatter
from ingot_server.log_events import Event
from ingot_server.output import open_missing_descriptors, write_lossily
from ingot_server.process.init import continue_as_child_of_init
from ingot_server.setting_checks import SIGNING_HINT
from ingot_server.setting_values import LogFormat, SettingError

logger = EventLogger(__name__)

# These commands print what they do or find.
_LOG_LEVELS: Final = {"extractor": logging.WARNING, "doctor": logging.CRITICAL}

# What the libraries and programs that Ingot is made of would read. Celery's broker, for example,
# is CELERY_BROKER_URL in preference to any argument, and SeaweedFS takes AWS_ACCESS_KEY_ID for the
# key of an administrator. The package installer's variables and proxies are not among them: only
# `extractor update` uses these.
_LIBRARY_PREFIXES: Final = (
    *("CELERY", "KOMBU_", "REDIS_", "VALKEY_"),
    *("AWS_", "MINIO_", "S3_", "WEED_"),
    *("UVICORN_", "GRPC_PYTHON_", "IMAGEIO_"),
)
_LIBRARY_VARIABLES: Final = (
    *("DJANGO_SETTINGS_MODULE", "FORKED_BY_MULTIPROCESSING", "C_FORCE_ROOT", "C_STRICT_APP"),
    *("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"),
)

# The commands that run until they are stopped, and what checks that they are not open to everyone.
_GUARDS: Final = {
    "up": require_guarded,
    "serve": require_guarded,
    "worker": require_guarded_metrics,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 1 if it failed and with 2 if it was used wrongly."""
    open_missing_descriptors()
    options = build_parser().parse_args(arguments)
    if options.command in _GUARDS:
        continue_as_child_of_init()
        write_lossily()
    log = _begin_log(options.command)
    forget_library_variables(os.environ)
    try:
        environment = {**os.environ, **_flags(options)}
        if options.command == "doctor":
            sys.exit(_doctor(environment, options))
        settings = Settings.from_environment(environment)
        if not settings.tracing:
            keep_out_opentelemetry()
        _follow_settings(log, settings, options.command)
        _refuse_renamed(environment)
        _warn_of_unknown(environment)
        if guard := _GUARDS.get(options.command):
            guard(settings)
        if options.command == "up":
            _up(settings, Settings.given(environment))
        else:
            _COMMANDS[options.command](settings, options)
    except SettingError as error:
        print(f"ingot-server: {error}", file=sys.stderr)
        sys.exit(2)
    except Failure as failure:
        print(f"ingot-server: {reason_name(failure.reason)}: {failure.message}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _begin_log(command: str) -> logging.Handler:
    """Write the log to standard error, as text until the settings are known."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter())
    logging.basicConfig(level=_LOG_LEVELS.get(command, logging.INFO), handlers=[handler])
    # It warns of each try; what comes of the last one is in an error of Ingot.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return handler


def _follow_settings(log: logging.Handler, settings: Settings, command: str) -> None:
    if settings.log_format is LogFormat.JSON:
        log.setFormatter(JsonFormatter())
    if command not in _LOG_LEVELS:
        logging.getLogger().setLevel(settings.log_level.upper())


def _refuse_renamed(environment: Mapping[str, str]) -> None:
    """Raise SettingError for a former name: its value would have no effect."""
    for name, now in Settings.renamed(environment).items():
        raise SettingError(f"{name} is now called {now}. Rename it.")


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    for name in Settings.unknown(environment):
        logger.warning(
            Event.UNKNOWN_SETTING,
            "%s is not a setting of Ingot; docs/settings.md lists all settings",
            name,
        )


def forget_library_variables(environment: MutableMapping[str, str]) -> None:
    """Remove what would decide in the place of settings, for this process and its children."""
    for name in list(environment):
        if name.startswith(_LIBRARY_PREFIXES) or name in _LIBRARY_VARIABLES:
            del environment[name]


def keep_out_opentelemetry() -> None:
    """Have redis-py believe that OpenTelemetry is not installed; else it imports 2 MiB of it."""
    sys.modules["opentelemetry"] = None  # type: ignore[assignment] # `import` fails then


class _Version(argparse.Action):
    """Prints the version, which is looked up only then: that takes 3 MiB, which `up` would keep."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(version("ingot-server"))
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="ingot-server",
        description="Run Ingot, the media ingest service.",
        epilog="Each setting is an environment variable; docs/settings.md lists them all.",
    )
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, help="show the version and exit"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    addresses = argparse.ArgumentParser(add_help=False)
    addresses.add_argument(
        "--grpc-address",
        metavar="HOST:PORT",
        help="address to listen on for gRPC; port 0 selects a free port",
    )
    addresses.add_argument(
        "--http-address",
        metavar="HOST:PORT",
        help="address to listen on for browsers and HTTP; port 0 selects a free port, "
        "'' turns it off",
    )
    addresses.add_argument(
        "--insecure",
        nargs="?",
        const="all",
        metavar="WHAT",
        help="start without authentication and TLS although other machines can reach the server; "
        "WHAT is one of `authentication` and `tls`",
    )

    up = commands.add_parser(
        "up",
        parents=[addresses],
        help="run everything on this machine: Redis, S3, workers and the API",
    )
    up.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="directory for the data of Redis and S3"
    )
    up.add_argument("--workers", type=int, metavar="N", help="number of worker processes")

    serve = commands.add_parser("serve", parents=[addresses], help="run the API server")
    serve.add_argument(
        "--processes", type=int, metavar="N", help="number of processes that share the port"
    )
    serve.add_argument("--reuse-port", action="store_true", help=argparse.SUPPRESS)
    serve.add_argument("--metrics-file", type=Path, help=argparse.SUPPRESS)

    worker = commands.add_parser("worker", help="run a worker for all jobs except conversions")
    worker.add_argument("--metrics-file", type=Path, help=argparse.SUPPRESS)
    jobs = worker.add_mutually_exclusive_group()
    jobs.add_argument("--convert", action="store_true", help="run conversions and nothing else")
    jobs.add_argument("--all", action="store_true", help="run all jobs, conversions too")
    health = commands.add_parser(
        "health", help="exit with 0 if the process of INGOT_HEARTBEAT_FILE is healthy, for probes"
    )
    health.add_argument(
        "--live", action="store_true", help="only ask whether it lives, without Redis and S3"
    )
    doctor = commands.add_parser(
        "doctor", help="check settings, Redis, S3 and this machine, and say what to do"
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object per line")
    commands.add_parser(
        "rebuild", help="fill Redis from the bucket: lost jobs, and the index of media items"
    )
    gc = commands.add_parser("gc", help="list what nothing in the bucket needs any more")
    gc.add_argument("--delete", action="store_true", help="remove it")
    scrub = commands.add_parser(
        "scrub",
        help="read all stored files to find damaged ones; exit with 1 if there are any",
    )
    scrub.add_argument(
        "--restart", action="store_true", help="do not go on where the last scrub was stopped"
    )
    scrub.add_argument(
        "--scrub-rate", metavar="SIZE", help="bytes to read per second; 0 means no limit"
    )
    backup_command.add_commands(commands)
    webhook_secret = commands.add_parser(
        "webhook-secret",
        help="print the secrets with which the receiver at a URL verifies webhooks",
    )
    webhook_secret.add_argument(
        "url", metavar="URL", help="URL as in requests; its query is ignored"
    )
    token = commands.add_parser(
        "token", help="make a token for a caller; print its entry for INGOT_TOKENS_FILE"
    )
    token.add_argument("name", metavar="NAME", help="whose token it is")
    token.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        required=True,
        metavar="SCOPE",
        help="what it allows: read, ingest, convert, write, delete or admin; may be repeated",
    )
    token.add_argument(
        "--expires-in", metavar="DURATION", help="how long it is accepted, such as 90d"
    )
    token.add_argument(
        "--quota",
        dest="quotas",
        action="append",
        default=[],
        metavar="LIMIT=VALUE",
        help=f"a limit of its caller, instead of that of the settings: {', '.join(LIMITS)}; "
        "may be repeated",
    )
    _extractor_parser(
        commands.add_parser("extractor", help="update yt-dlp, or go back to an earlier version")
    )
    return parser


def _extractor_parser(parser: argparse.ArgumentParser) -> None:
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="data directory that `up` was started with"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("list", "show the versions, and which one is in use"),
        ("update", "install a version, try the canaries with it, and use it"),
        ("check", "try the canaries, and go back to the previous version if that is better"),
        ("use", "use an installed version"),
        ("rollback", "use the previous version"),
        ("remove", "remove a version that is not in use"),
    ):
        action = actions.add_parser(name, parents=[directory], help=text)
        if name == "update":
            action.add_argument("version", nargs="?", default="", metavar="VERSION")
            action.add_argument("--nightly", action="store_true", help="accept nightly builds, too")
            action.add_argument(
                "--from",
                dest="source",
                type=Path,
                metavar="PATH",
                help="wheel, or directory of wheels, to install instead of the package index's",
            )
            action.add_argument("--untried", action="store_true", help="do not try the canaries")
        elif name == "use":
            action.add_argument(
                "version",
                metavar="VERSION",
                help="installed version, or `released` for Ingot's own",
            )
        elif name == "remove":
            action.add_argument("version", metavar="VERSION")


def _flags(options: argparse.Namespace) -> dict[str, str]:
    """Return the variables of the settings that were given as flags."""
    given = vars(options)
    return {
        PREFIX + item.name.upper(): str(given[item.name])
        for item in dataclasses.fields(Settings)
        if given.get(item.name) is not None
    }


def _up(settings: Settings, given: Collection[str]) -> None:
    from ingot_server.local import embedded

    asyncio.run(embedded.up(settings, given))


def _doctor(environment: Mapping[str, str], options: argparse.Namespace) -> int:
    """Print what is found; return the exit code. A setting that cannot be used is a finding."""
    from ingot_server.doctor import examination

    try:
        settings = Settings.from_environment(environment)
        findings = asyncio.run(
            examination.examine(
                settings,
                unknown=Settings.unknown(environment),
                renamed=Settings.renamed(environment),
            )
        )
    except SettingError as error:
        findings = [examination.unreadable_settings(error)]
    write = examination.json_lines if options.json else examination.lines
    print("\n".join(write(findings)))
    return examination.exit_code(findings)


def _serve(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server import app
    from ingot_server.local import replicas

    file: Path | None = options.metrics_file
    if settings.processes > 1:
        asyncio.run(replicas.serve_replicas(settings, file.parent if file is not None else None))
    else:
        asyncio.run(app.serve(settings, reuse_port=options.reuse_port, metrics_file=file))


def _worker(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server import worker_process
    from ingot_server.jobs.placement import Work

    works = tuple(Work) if options.all else (Work.CONVERT if options.convert else Work.FETCH,)
    code = worker_process.main(settings, works, options.metrics_file)
    if code:
        sys.exit(code)


def _health(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server.health import require_health
    from ingot_server.heartbeat import Unhealthy

    try:
        require_health(settings, live=options.live)
    except Unhealthy as unhealthy:
        print(f"ingot-server: {unhealthy}", file=sys.stderr)
        sys.exit(1)


def _rebuild(settings: Settings, _: argparse.Namespace) -> None:
    from ingot_server import rebuild

    rebuilt = asyncio.run(rebuild.rebuild(settings, sys.stderr))
    print(f"Jobs that were made again: {rebuilt.jobs}.")
    print(
        "Another process is building the index now."
        if rebuilt.media_items is None
        else f"The index has {rebuilt.media_items} media items."
    )


def _gc(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server.garbage_collection import collect_garbage

    say = functools.partial(print, flush=True)
    asyncio.run(collect_garbage(settings, delete=options.delete, say=say))


def _scrub(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server.scrub import scrub

    say = functools.partial(print, flush=True)
    if not asyncio.run(scrub(settings, restart=options.restart, say=say)):
        sys.exit(1)


def _copy(settings: Settings, options: argparse.Namespace) -> None:
    if code := backup_command.run(settings, options):
        sys.exit(code)


def _webhook_secret(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server.webhooks.signature import secrets_of

    secrets = secrets_of(options.url, settings)
    if not secrets:
        raise SettingError(f"INGOT_WEBHOOK_SECRETS is not set. {SIGNING_HINT}")
    print("\n".join(secrets))


def _token(_: Settings, options: argparse.Namespace) -> None:
    from ingot_server.access_tokens import entry, new_token
    from ingot_server.setting_values import parse_duration

    try:
        lifetime = parse_duration(options.expires_in) if options.expires_in else None
    except ValueError:
        raise SettingError(
            f"--expires-in={options.expires_in!r} is not a duration such as `90d` or `12h`."
        ) from None
    expire_time = datetime.now(UTC) + lifetime if lifetime else None
    quota = {name: value for name, _, value in (each.partition("=") for each in options.quotas)}
    token = new_token()
    print(entry(token, options.name, options.scopes, expire_time, quota), end="")
    # The entry goes into a file; the token goes to its owner, and is shown this once.
    print(token, file=sys.stderr)


def _extractor(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server.extractor.versions import ExtractorError

    try:
        _manage_extractor(settings, options)
    except ExtractorError as error:
        print(f"ingot-server: {error}", file=sys.stderr)
        sys.exit(1)


def _manage_extractor(settings: Settings, options: argparse.Namespace) -> None:
    from ingot_server.extractor import update as extractor_update
    from ingot_server.extractor.versions import Versions
    from ingot_server.source_settings import read_source_settings
    from ingot_server.sources import SOURCES

    say = functools.partial(print, flush=True)
    versions = Versions(settings)
    sources = read_source_settings(settings, [source.name for source in SOURCES])
    match options.action:
        case "list":
            extractor_update.show(versions, say)
        case "update":
            wanted = extractor_update.UpdateRequest(
                options.version, options.nightly, options.source, not options.untried
            )
            asyncio.run(extractor_update.update(versions, wanted, settings, sources, say))
        case "check":
            asyncio.run(extractor_update.check_now(versions, settings, sources, say))
        case "use":
            asyncio.run(extractor_update.use(versions, options.version, settings, say))
        case "rollback":
            extractor_update.rollback(versions, say)
        case _:
            extractor_update.remove(versions, options.version, say)


_COMMANDS: Final = {
    "serve": _serve,
    "worker": _worker,
    "health": _health,
    "rebuild": _rebuild,
    "gc": _gc,
    "scrub": _scrub,
    "export": _copy,
    "import": _copy,
    "webhook-secret": _webhook_secret,
    "token": _token,
    "extractor": _extractor,
}

if __name__ == "__main__":
    main()
