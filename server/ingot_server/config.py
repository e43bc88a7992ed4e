"""Settings: read once from the environment, handed down, never looked up again."""

from __future__ import annotations

import dataclasses
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

PREFIX: Final = "INGOT_"

_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_BOOLEANS: Final = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


class SettingError(Exception):
    """A setting that cannot be used: which one, what it holds, and what it should be."""


class ByteSize(int):
    """A number of bytes; written in a setting as `512MiB` or plain `536870912`."""


class Secret(str):
    """A text that shows as `***`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Each is the environment variable `INGOT_` and its name in upper case."""

    grpc_address: str = _setting("127.0.0.1:50051", "where the API listens for gRPC, HOST:PORT")
    http_address: str = _setting("127.0.0.1:8080", "where browsers and HTTP clients reach the API")
    cors_origins: str = _setting(
        "", "web pages that may call the API besides its own, by origin, with commas; `*` is any"
    )
    data_dir: Path = _setting(Path("data"), "where `up` keeps its Redis and S3 data")
    workers: int = _setting(2, "worker processes that `up` starts")
    worker_slots: int = _setting(16, "jobs that one worker process runs at once")
    convert_workers: int = _setting(1, "worker processes for conversions that `up` starts")
    conversions: int = _setting(
        2, "conversions that one worker process runs at once; one that encodes video counts as all"
    )
    processes: int = _setting(1, "API server processes that share the port")

    redis_url: str = _setting("redis://127.0.0.1:6379/0", "Redis or Valkey; also unix:///path")
    broker_url: str = _setting("", "Celery's broker, Redis or RabbitMQ; empty means redis_url")
    s3_endpoint: str = _setting("127.0.0.1:9000", "S3 server, HOST:PORT")
    s3_access_key: str = _setting("", "S3 access key")
    s3_secret_key: Secret = _setting(Secret(""), "S3 secret key")
    s3_bucket: str = _setting("ingot", "bucket; made at start-up when it is missing")
    s3_region: str = _setting("us-east-1", "region that requests are signed for")
    s3_secure: bool = _setting(False, "use HTTPS to reach S3")
    s3_public_endpoint: str = _setting(
        "", "S3 server as download links name it; empty means s3_endpoint"
    )
    buckets_file: str = _setting(
        "", "TOML file with further buckets whose objects may be adopted, see sources.md"
    )

    egress_allow_loopback: bool = _setting(
        False, "let URLs reach 127.0.0.0/8 and ::1, for tests and for trying it out"
    )
    egress_proxy: str = _setting("", "upstream proxy for all outgoing traffic, http://HOST:PORT")
    egress_ca_file: str = _setting("", "PEM file of authorities trusted besides the system's")
    connections_per_host: int = _setting(
        16, "connections that a worker opens to one host at once; 0 is no limit"
    )

    telegram_api_url: str = _setting(
        "https://api.telegram.org",
        "Telegram's Bot API, or a server of one's own for it, which may have a private address",
    )
    telegram_bot_token: Secret = _setting(
        Secret(""), "token of the bot whose files telegram:// names"
    )
    telegram_api_id: int = _setting(0, "for private Telegram channels: api_id of my.telegram.org")
    telegram_api_hash: Secret = _setting(Secret(""), "for private Telegram channels: its api_hash")
    telegram_session: Secret = _setting(
        Secret(""), "for private Telegram channels: an account's session, as telethon writes it"
    )

    max_media_size: ByteSize = _setting(ByteSize(20 << 30), "largest file taken")
    max_duration: timedelta = _setting(timedelta(hours=12), "longest media taken")
    max_redirects: int = _setting(10, "redirects that are followed")
    jobs_per_host: int = _setting(
        8, "jobs that a worker runs at once against one host; 0 is no limit"
    )
    max_playlist_entries: int = _setting(
        1000, "entries of a playlist, channel or album; more is refused"
    )
    playlist_jobs: int = _setting(16, "jobs of one playlist that are with the workers at once")
    connect_timeout: timedelta = _setting(timedelta(seconds=10), "for reaching a source")
    stall_timeout: timedelta = _setting(
        timedelta(seconds=20), "a source is given up after this long below stall_rate"
    )
    stall_rate: ByteSize = _setting(ByteSize(1 << 10), "bytes a second that count as moving")
    download_timeout: timedelta = _setting(timedelta(hours=6), "for receiving one file")
    extraction_timeout: timedelta = _setting(
        timedelta(minutes=2), "for finding out what a page's media is"
    )
    extractor_memory: ByteSize = _setting(
        ByteSize(2 << 30),
        "memory of the processes that extract one job's media",
    )
    extractor_plugins: str = _setting(
        "", "directory of yt-dlp plug-ins, such as a PO-token provider; its code is trusted"
    )
    extractors_dir: str = _setting(
        "", "directory of updated versions of yt-dlp; empty means `extractors` in data_dir"
    )
    extractor_canaries: str = _setting(
        "", "URLs that a version of yt-dlp must bring in to be used, with blanks or commas"
    )
    extractor_check_interval: timedelta = _setting(
        timedelta(hours=1), "workers try the canaries this often after an update; `0` is never"
    )
    fragments_at_once: int = _setting(4, "fragments of one HLS or DASH media received at once")
    probe_timeout: timedelta = _setting(timedelta(minutes=5), "for reading one file")
    conversion_timeout: timedelta = _setting(timedelta(hours=6), "for making one conversion")
    conversion_memory: ByteSize = _setting(
        ByteSize(4 << 30), "address space of the ffmpeg that makes a conversion"
    )
    conversion_threads: int = _setting(
        4, "threads of each decoder and encoder in it; 0 is one for each processor"
    )
    scratch_dir: Path = _setting(
        Path(tempfile.gettempdir(), "ingot-scratch"), "where files are while they are worked on"
    )
    scratch_reserve: ByteSize = _setting(
        ByteSize(512 << 20), "space that is always left free in scratch_dir"
    )

    upload_ttl: timedelta = _setting(
        timedelta(days=1), "how long an unfinished upload waits for its next bytes"
    )
    job_ttl: timedelta = _setting(timedelta(hours=1), "how long the record of an ended job lives")
    manifest_ttl: timedelta = _setting(timedelta(hours=1), "how long Redis keeps a manifest")
    negative_ttl: timedelta = _setting(
        timedelta(minutes=10), "how long it is remembered that a media does not exist, at most"
    )
    existence_check: bool = _setting(
        True, "ask sources that can tell whether a media exists before a job is made for it"
    )
    existence_timeout: timedelta = _setting(
        timedelta(seconds=2), "for that answer; without one the job is made"
    )
    preflight_ttl: timedelta = _setting(
        timedelta(hours=1), "how long it is remembered that a media exists"
    )
    lease: timedelta = _setting(
        timedelta(seconds=8), "a worker silent for this long loses its jobs"
    )
    resend_interval: timedelta = _setting(
        timedelta(seconds=5),
        "a queued job that no worker took is sent again after this long, doubled each time",
    )
    attempts: int = _setting(3, "tries of a job whose failures are transient")
    retry_backoff: timedelta = _setting(
        timedelta(seconds=1), "wait before the second try; doubled for each one after"
    )
    worker_losses: int = _setting(3, "workers that a job may lose before it fails")
    watches_per_caller: int = _setting(1000, "open watches of one client address")
    sources_file: str = _setting(
        "", "TOML file with cookies, proxy and limits of single sources, see sources.md"
    )
    source_wait_timeout: timedelta = _setting(
        timedelta(hours=1), "a job fails when its source has refused us for this long"
    )
    shutdown_timeout: timedelta = _setting(
        timedelta(seconds=4), "for running calls when the server stops"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Reads every setting that is there; the rest keep their defaults.

        Raises SettingError for a value that cannot be used.
        """
        values: dict[str, Any] = {
            item.name: _parse(name, environment[name], type(item.default))
            for name, item in _by_variable().items()
            if name in environment
        }
        return cls(**values)

    @classmethod
    def unknown(cls, environment: Mapping[str, str]) -> list[str]:
        """Variables that look like settings and are none: misspelt, or somebody else's.

        They are no error. Kubernetes makes `INGOT_PORT` and the like for a service named ingot.
        """
        known = _by_variable().keys() | _CLIENT_SETTINGS
        return sorted(name for name in environment.keys() - known if name.startswith(PREFIX))

    @classmethod
    def given(cls, environment: Mapping[str, str]) -> frozenset[str]:
        """The names of the settings that `environment` sets."""
        return frozenset(item.name for name, item in _by_variable().items() if name in environment)

    def replace(self, **changes: Any) -> Settings:
        """A copy with `changes` made."""
        return dataclasses.replace(self, **changes)

    def environment(self) -> dict[str, str]:
        """The settings as the variables that `from_environment` reads, for a child process."""
        return {
            PREFIX + item.name.upper(): _format(getattr(self, item.name))
            for item in dataclasses.fields(self)
        }


def _by_variable() -> dict[str, dataclasses.Field[Any]]:
    return {PREFIX + item.name.upper(): item for item in dataclasses.fields(Settings)}


# Set for the command line of the client, which may run in the same environment.
_CLIENT_SETTINGS: Final = frozenset({"INGOT_SERVER"})


def _parse(name: str, text: str, kind: type[Any]) -> object:
    try:
        if kind is bool:
            return _BOOLEANS[text.lower()]
        if kind is timedelta:
            return parse_length(text)
        if kind is ByteSize:
            return ByteSize(_scaled(text, _BYTES, ""))
        if kind is int:
            number = int(text)
            if number < 0:
                raise ValueError
            return number
        return kind(text)
    except (KeyError, ValueError):
        raise SettingError(f"{name}={text!r} is not {_EXPECTED[kind]}.") from None


_EXPECTED: Final[Mapping[type[object], str]] = {
    bool: "`on` or `off`",
    timedelta: "a length of time such as `30s`, `5m`, `1h` or seconds",
    ByteSize: "a size such as `512MiB`, `20GiB` or bytes",
    int: "a whole number, zero or more",
}


def parse_length(text: str) -> timedelta:
    """A length of time as settings write it: `30s`, `5m`, `1h`, or seconds. Raises ValueError."""
    try:
        return timedelta(seconds=_scaled(text, _SECONDS, "s"))
    except (KeyError, OverflowError):
        raise ValueError(text) from None


def _scaled(text: str, units: Mapping[str, float], default: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None:
        raise ValueError(text)
    return float(match[1]) * units[match[2] or default]


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.6f}s"
    if isinstance(value, ByteSize):
        return str(int(value))
    return str(value)


def read_setting_file(variable: str, path: Path) -> dict[str, object]:
    """Return the content of the TOML file that the setting `variable` names.

    Raises SettingError if the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(f"{variable}: {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{variable}: {path} is not valid TOML: {error}.") from error
