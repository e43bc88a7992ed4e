"""The settings: read once from the environment and passed down."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from ingot_server.setting_checks import (
    SIGNING_HINT,
    check_bandwidth,
    check_egress_allow,
    check_egress_deny,
    check_egress_ports,
    check_insecure,
    check_open_services,
    check_s3_credentials,
    check_s3_prefix,
    check_sponsorblock,
    check_sponsorblock_api,
    check_trace_protocol,
    check_transcription_url,
    check_user_agent,
    check_webhook_secrets,
    check_webhook_url,
)
from ingot_server.setting_values import (
    FILE,
    ByteSize,
    CacheSharing,
    LogFormat,
    LogLevel,
    Secret,
    SettingError,
    format_value,
    parse_value,
    secret_text,
)
from ingot_server.store_urls import StoreUrlError, check_broker_url, check_redis_url

PREFIX: Final = "INGOT_"


def _setting(
    default: Any,
    doc: str,
    *,
    check: Callable[[str], None] | None = None,
    secret: bool = False,
) -> Any:
    """Declare a setting. One that is `secret`, or of the type Secret, may be in a file."""
    secret = secret or isinstance(default, Secret)
    return field(default=default, metadata={"doc": doc, "check": check, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. The variable of each is `INGOT_` and its name in upper case."""

    grpc_address: str = _setting(
        "127.0.0.1:50051", "address that the API listens on for gRPC, HOST:PORT"
    )
    http_address: str = _setting(
        "127.0.0.1:8080",
        "address that the API listens on for browsers and HTTP, HOST:PORT; empty turns it off",
    )
    metrics_address: str = _setting(
        "",
        "address that a worker or an API server serves its metrics on, HOST:PORT, besides the HTTP "
        "port; empty turns it off; see metrics.md",
    )
    tls_certificate_file: str = _setting(
        "",
        "PEM file with the server's certificate chain, for TLS on both addresses; read again when "
        "it changes; empty means no TLS",
    )
    tls_key_file: str = _setting("", "PEM file with the key of that certificate")
    tls_client_ca_file: str = _setting(
        "",
        "PEM file with certificate authorities; clients then need a certificate that one of them "
        "has signed",
    )
    cors_origins: str = _setting(
        "", "origins of other web pages that may call the API, separated by commas; `*` allows all"
    )
    http_hosts: str = _setting(
        "",
        "names under which browsers and proxies reach the HTTP port, separated by commas; see "
        "http.md",
    )
    http_connections: int = _setting(
        10_000,
        "HTTP connections that an API server keeps open at the same time, in all; at most half as "
        "many as the process may have descriptors",
    )
    http_connections_per_address: int = _setting(
        2_000,
        "the same for one client address, at most half of all; 0 means no limit, for a server "
        "behind a proxy",
    )
    tokens_file: str = _setting(
        "", "TOML file with the tokens that callers may use, see authentication.md"
    )
    tokens: str = _setting("", "such tokens, written as in that file")
    jwks_url: str = _setting(
        "",
        "URL of the keys (JWKS) that sign the JWTs which callers may use, see authentication.md",
    )
    jwt_issuer: str = _setting("", "issuer that such a JWT must have (`iss`)")
    jwt_audience: str = _setting("", "audience that it must have (`aud`)")
    jwt_scopes_claim: str = _setting(
        "scope", "claim with its scopes, a text with spaces between them, or a list"
    )
    jwt_scopes_prefix: str = _setting(
        "", "what scopes of Ingot begin with in that claim, such as `ingot:`"
    )
    page_session_ttl: timedelta = _setting(
        timedelta(hours=12), "how long a login on the web page lasts"
    )
    certificate_scopes: str = _setting(
        "",
        "scopes of callers who show a certificate and no token, separated by commas; see "
        "authentication.md",
    )
    insecure: str = _setting(
        "",
        "what a server that other machines can reach may go without: `authentication`, `tls`, or "
        "`all`",
        check=check_insecure,
    )
    open_services: str = _setting(
        "health",
        "which of `health`, `reflection` and `metrics` need no token, separated by commas",
        check=check_open_services,
    )
    data_dir: Path = _setting(
        Path("data"), "directory in which `up` keeps the data of Redis and S3"
    )
    workers: int = _setting(1, "number of worker processes that `up` starts")
    worker_slots: int = _setting(16, "number of jobs that a worker process runs at the same time")
    convert_workers: int = _setting(
        0,
        "number of worker processes for conversions that `up` starts; "
        "with 0, the others convert, too",
    )
    conversions: int = _setting(
        2,
        "number of conversions that a worker process runs at the same time; "
        "one that encodes video uses all of them",
    )
    processes: int = _setting(1, "number of API server processes that share the port")

    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "URL of Redis or Valkey; `unix:///path` for a Unix socket; neither Sentinel nor Cluster",
        check=check_redis_url,
        secret=True,
    )
    redis_prefix: str = _setting(
        "ingot:",
        "what all keys and channels in Redis begin with; installations that share a Redis server "
        "need different ones",
    )
    broker_url: str = _setting(
        "",
        "URL of Celery's broker, Redis or RabbitMQ; empty means redis_url",
        check=check_broker_url,
        secret=True,
    )
    s3_endpoint: str = _setting("127.0.0.1:9000", "address of the S3 server, HOST:PORT")
    s3_access_key: str = _setting("", "access key for S3")
    s3_secret_key: Secret = _setting(Secret(""), "secret key for S3")
    s3_credentials: str = _setting(
        "keys",
        "where the keys for S3 come from: `keys` are the two settings before, `role` is the role "
        "of the machine or container, `web-identity` a role for a token in a file",
        check=check_s3_credentials,
    )
    s3_credentials_url: str = _setting(
        "",
        "URL of the service that gives keys for a role; empty means that of AWS",
    )
    s3_role_arn: str = _setting("", "role for `web-identity`")
    s3_web_identity_token_file: str = _setting(
        "", "file with the token for `web-identity`, read again whenever keys are renewed"
    )
    s3_bucket: str = _setting(
        "ingot", "bucket for all media; created at start-up if it does not exist"
    )
    s3_prefix: str = _setting(
        "",
        "folder of that bucket for all that Ingot keeps, such as `ingot`; installations that share "
        "a bucket need different ones",
        check=check_s3_prefix,
    )
    s3_region: str = _setting("us-east-1", "region that S3 requests are signed for")
    s3_secure: bool = _setting(False, "whether to use HTTPS for S3")
    s3_ca_file: str = _setting(
        "",
        "PEM file with certificate authorities that are trusted for S3 in addition to the system's",
    )
    s3_certificate_file: str = _setting(
        "", "PEM file with a certificate to show to the S3 server, and its key"
    )
    s3_certificate_key_file: str = _setting(
        "", "PEM file with the key of that certificate, if it is not in the same file"
    )
    s3_public_endpoint: str = _setting(
        "",
        "address of the S3 server in links, HOST:PORT or a URL; empty means s3_address or "
        "s3_endpoint",
    )
    s3_address: str = _setting(
        "",
        "address at which other machines reach the S3 server that `up` starts, HOST:PORT; empty "
        "means that only this machine does",
    )
    buckets_file: str = _setting(
        "", "TOML file with other buckets whose objects may be adopted, see sources.md"
    )

    egress_allow_loopback: bool = _setting(
        False, "whether URLs may reach 127.0.0.0/8 and ::1; only for tests and for trying Ingot out"
    )
    egress_proxy: str = _setting("", "upstream proxy for all outgoing traffic, http://HOST:PORT")
    egress_ca_file: str = _setting(
        "", "PEM file with certificate authorities that are trusted in addition to the system's"
    )
    egress_deny: str = _setting(
        "",
        "addresses and networks such as `198.51.100.0/24` that sources never reach, besides "
        "private ones, separated by commas",
        check=check_egress_deny,
    )
    egress_ports: str = _setting(
        "80,443,1024-65535",
        "ports that sources may be reached at, separated by commas",
        check=check_egress_ports,
    )
    egress_job_bytes: ByteSize = _setting(
        ByteSize(0),
        "bytes that one attempt of a job may receive from sources; "
        "0 means three times max_media_size",
    )
    egress_job_connections: int = _setting(
        64, "connections to sources that one job may have open at the same time"
    )
    egress_allow: str = _setting(
        "",
        "what webhooks and INGOT_TRANSCRIPTION_URL may reach although its address is private, as "
        "HOST:PORT or networks such as `10.0.0.0/8`, separated by commas; sources never may",
        check=check_egress_allow,
    )
    connections_per_host: int = _setting(
        16, "connections that a worker opens to one host at the same time; 0 means no limit"
    )
    bandwidth: ByteSize = _setting(
        ByteSize(0),
        "bytes per second that a worker receives from sources, from 64KiB on; 0 means no limit",
        check=check_bandwidth,
    )

    telegram_api_url: str = _setting(
        "https://api.telegram.org",
        "URL of Telegram's Bot API, or of your own server for it, which may have a private address",
    )
    telegram_bot_token: Secret = _setting(
        Secret(""), "token of the bot whose files telegram:// URLs name"
    )
    telegram_api_id: int = _setting(0, "api_id from my.telegram.org, for private Telegram channels")
    telegram_api_hash: Secret = _setting(
        Secret(""), "api_hash from my.telegram.org, for private Telegram channels"
    )
    telegram_session: Secret = _setting(
        Secret(""),
        "session string of a Telegram account, as telethon writes it, for private channels",
    )

    max_media_size: ByteSize = _setting(
        ByteSize(20 << 30), "size of the largest file that is ingested"
    )
    max_duration: timedelta = _setting(
        timedelta(hours=12), "duration of the longest media item that is ingested"
    )
    max_redirects: int = _setting(10, "number of redirects that are followed")
    user_agent: str = _setting(
        "Ingot/0.2",
        "User-Agent of Ingot's requests to sources; yt-dlp has that of a browser, as has the "
        "second request for a file that a source refused",
        check=check_user_agent,
    )
    jobs_per_host: int = _setting(
        8, "jobs that a worker runs at the same time for one host; 0 means no limit"
    )
    max_playlist_entries: int = _setting(
        1000, "most entries of a playlist, channel or album; a longer one is refused"
    )
    playlist_jobs: int = _setting(16, "jobs of one playlist that are dispatched at the same time")
    connect_timeout: timedelta = _setting(timedelta(seconds=10), "time to connect to a source")
    stall_timeout: timedelta = _setting(
        timedelta(seconds=20), "a transfer fails after this long below stall_rate"
    )
    stall_rate: ByteSize = _setting(
        ByteSize(1 << 10), "bytes per second below which a transfer stalls"
    )
    least_rate: ByteSize = _setting(
        ByteSize(4 << 10),
        "bytes per second that a download must have over each least_rate_period, unless it records "
        "a live stream; 0 means no such rate",
    )
    least_rate_period: timedelta = _setting(
        timedelta(minutes=5), "time over which least_rate is counted"
    )
    download_timeout: timedelta = _setting(timedelta(hours=6), "time to download one file")
    extraction_timeout: timedelta = _setting(
        timedelta(minutes=2), "time to find out which media item is behind a page"
    )
    extractor_memory: ByteSize = _setting(
        ByteSize(2 << 30),
        "memory for the processes that extract the media of one job",
    )
    extractor_prewarm: bool = _setting(
        False,
        "whether a worker always has an extraction process ready, which takes 50 MB; otherwise "
        "the first extraction after a pause of minutes takes a second longer",
    )
    extractor_plugins: str = _setting(
        "", "directory of yt-dlp plug-ins, such as a PO token provider; their code is trusted"
    )
    extractor_plugin_port: int = _setting(
        4416,
        "TCP port of this machine that plug-ins may reach, where a PO token provider has its "
        "server; `0` means none",
    )
    po_tokens: bool = _setting(
        True, "whether PO tokens are made when YouTube keeps formats back without, see extractor.md"
    )
    extractors_dir: str = _setting(
        "", "directory of updated versions of yt-dlp; empty means `extractors` in data_dir"
    )
    extractor_canaries: str = _setting(
        "",
        "URLs that a version of yt-dlp must be able to ingest before it is "
        "used, separated by spaces or commas",
    )
    extractor_check_interval: timedelta = _setting(
        timedelta(hours=1), "how often workers try the canaries after an update; `0` means never"
    )
    sponsorblock: str = _setting(
        "",
        "categories of SponsorBlock's segments that become chapters of YouTube videos, separated "
        "by commas, or `all`; empty asks for none",
        check=check_sponsorblock,
    )
    sponsorblock_api: str = _setting(
        "https://sponsor.ajay.app", "URL of SponsorBlock's API", check=check_sponsorblock_api
    )
    fragments_at_once: int = _setting(
        4, "fragments of one HLS or DASH stream that are downloaded at the same time"
    )
    probe_timeout: timedelta = _setting(
        timedelta(minutes=5), "time to probe one file, and to cut a section out of one"
    )
    ffmpeg: str = _setting(
        "",
        "path of the ffmpeg to use; empty means the one that is installed with Ingot; a script may "
        "start programs of its own directory and the system's",
    )
    conversion_timeout: timedelta = _setting(timedelta(hours=6), "time for one conversion")
    conversion_memory: ByteSize = _setting(
        ByteSize(0),
        "address space of the ffmpeg process of a conversion; `0` means half of the memory of the "
        "machine or container, at least `1GiB` and at most `4GiB`",
    )
    conversion_threads: int = _setting(
        4, "threads of each decoder and encoder of a conversion; 0 means one per processor"
    )
    transcription_url: str = _setting(
        "",
        "endpoint that makes transcripts from the sound, in the protocol of OpenAI's "
        "`https://api.openai.com/v1/audio/transcriptions`; empty turns it off",
        check=check_transcription_url,
    )
    transcription_model: str = _setting("whisper-1", "model that the endpoint is asked for")
    transcription_api_key: Secret = _setting(Secret(""), "API key for the endpoint")
    transcription_timeout: timedelta = _setting(
        timedelta(minutes=10), "time to wait for a response of the endpoint to 20 minutes of sound"
    )
    scratch_dir: Path = _setting(
        # Not in XDG_RUNTIME_DIR: that is in memory, and must not hold large files.
        Path(tempfile.gettempdir(), f"ingot-scratch-{os.getuid()}"),
        "directory for files while they are worked on; no other user may write to it",
    )
    scratch_reserve: ByteSize = _setting(
        ByteSize(512 << 20), "space that always stays free in scratch_dir"
    )

    upload_ttl: timedelta = _setting(
        timedelta(days=1), "how long an unfinished upload is kept after its last bytes"
    )
    upload_links_per_caller: int = _setting(
        2_000,
        "open upload links of one caller, each for a part of up to 64 MiB; 0 means no limit",
    )
    gc_grace: timedelta = _setting(
        timedelta(days=1),
        "how long objects that nothing needs stay in the bucket; it must be longer than the "
        "longest job, and than a proxy may delay a request",
    )
    gc_interval: timedelta = _setting(
        timedelta(days=1), "how often a worker removes such objects; `0` means never"
    )
    bucket_dir: str = _setting(
        "",
        "directory in which the S3 server on this machine keeps its data, for rules with "
        "`min_free`; `up` sets it for the server that it starts",
    )
    retention_file: str = _setting(
        "",
        "TOML file with rules by which `gc` removes stored media, see retention.md; read again "
        "when it changes",
    )
    scrub_interval: timedelta = _setting(
        timedelta(days=30), "how often a worker reads all stored files to find damage; `0` is never"
    )
    scrub_rate: ByteSize = _setting(
        ByteSize(10 << 20), "bytes per second that a scrub reads; 0 means no limit"
    )
    job_ttl: timedelta = _setting(
        timedelta(hours=1), "how long the record of a job is kept after its end"
    )
    manifest_ttl: timedelta = _setting(timedelta(hours=1), "how long Redis keeps a manifest")
    negative_ttl: timedelta = _setting(
        timedelta(minutes=10),
        "longest time that the negative cache remembers that a media item does not exist",
    )
    preflight: bool = _setting(
        True,
        "whether to ask a source if a media item exists before a job is "
        "created, if the source can tell",
    )
    existence_timeout: timedelta = _setting(
        timedelta(seconds=2), "time to wait for that response; without one the job is created"
    )
    preflight_ttl: timedelta = _setting(
        timedelta(hours=1), "how long a positive response of that check is remembered"
    )
    resolve_ttl: timedelta = _setting(
        timedelta(minutes=5),
        "how long Resolve returns what a source has said before it asks again; 0 asks every time",
    )
    lease: timedelta = _setting(
        timedelta(seconds=8), "a worker that sends no heartbeat for this long loses its jobs"
    )
    resend_interval: timedelta = _setting(
        timedelta(seconds=5),
        "a job that its worker has not claimed after this long is dispatched to another one",
    )
    attempts: int = _setting(3, "attempts of a job whose failures are transient")
    retry_backoff: timedelta = _setting(
        timedelta(seconds=1), "delay before the second attempt; doubled for each one after that"
    )
    webhook_url: str = _setting(
        "",
        "URL that gets a webhook at the end of every job, see webhooks.md; empty turns it off",
        check=check_webhook_url,
    )
    webhook_secrets: Secret = _setting(
        Secret(""),
        "secrets that sign webhooks, `whsec_` and 24 to 64 bytes in base64; two, separated by a "
        "comma, while they are being replaced; without one, requests cannot have a webhook",
        check=check_webhook_secrets,
    )
    webhook_ttl: timedelta = _setting(
        timedelta(days=3),
        "how long the delivery of a webhook is tried, and how long one that failed is kept",
    )
    subscriptions_per_caller: int = _setting(
        1000, "lists that one caller may follow; 0 means no limit"
    )
    feeds_per_caller: int = _setting(
        100, "podcast feeds that one caller may have; 0 means no limit"
    )
    worker_losses: int = _setting(3, "number of workers that a job may lose before it fails")
    cache_sharing: CacheSharing = _setting(
        CacheSharing.SHARED,
        "`shared` is one cache for all callers; with `private` each caller with a name has media "
        "and jobs of its own, see tenants.md",
    )
    calls_per_caller: int = _setting(
        1000,
        "calls of one caller in a second, over all API servers; 0 means no limit, "
        "as for callers on this machine without a name",
    )
    jobs_per_caller: int = _setting(
        10_000,
        "jobs of one caller that have not ended, each list as one; 0 means no limit, "
        "as for callers on this machine without a name",
    )
    queued_jobs_per_caller: int = _setting(
        0,
        "those of them that no worker has begun; 0 means no limit, as for callers on this machine "
        "without a name",
    )
    running_jobs_per_caller: int = _setting(
        0,
        "jobs of one caller that workers run at the same time, more wait; 0 means no limit, as for "
        "callers on this machine without a name",
    )
    daily_bytes_per_caller: ByteSize = _setting(
        ByteSize(10 << 40),
        "bytes that the jobs and uploads of one caller receive in a day, until midnight UTC; 0 "
        "means no limit, as for callers on this machine without a name",
    )
    stored_bytes_per_caller: ByteSize = _setting(
        ByteSize(0),
        "bytes of the media items that one caller owns; 0 means no limit, as for callers without a "
        "name, which own nothing",
    )
    watches_per_caller: int = _setting(
        1000, "open watches of one caller at one API server; 0 means no limit"
    )
    max_calls: int = _setting(
        10_000, "calls that an API server answers at the same time on each port, without watches"
    )
    sources_file: str = _setting(
        "", "TOML file with cookies, proxies and limits of single sources, see sources.md"
    )
    source_wait_timeout: timedelta = _setting(
        timedelta(hours=1), "a job fails after its source has refused this server for this long"
    )
    heartbeat_file: str = _setting(
        "",
        "file that `up`, `serve` and `worker` touch while their event loop turns, for "
        "`ingot-server health`; empty means none",
    )
    shutdown_timeout: timedelta = _setting(
        timedelta(seconds=4), "time for running calls to end when the server stops"
    )
    log_format: LogFormat = _setting(
        LogFormat.TEXT,
        "`text` for people, or `json` for programs: one object per line, see logs.md",
    )
    log_level: LogLevel = _setting(
        LogLevel.INFO,
        "least important events that are logged: `debug`, `info`, `warning` or `error`",
    )
    slow_call: timedelta = _setting(
        timedelta(seconds=10),
        "a call that takes longer is logged, unless it is a stream; 0 turns that off",
    )
    tracing: bool = _setting(
        False, "whether to export traces by OTLP; variables `OTEL_*` say where to, see tracing.md"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings from variables; those that are not set keep their defaults.

        A secret is also read from the file that its variable with `_FILE` at the end names. Raises
        SettingError for a value that cannot be used.
        """
        values: dict[str, Any] = {}
        in_files = cls.secret_variables()
        for name, item in _by_variable().items():
            text = secret_text(environment, name) if name in in_files else environment.get(name)
            if text is not None:
                values[item.name] = _read(name, text, item)
        settings = cls(**values)
        if settings.webhook_url and not settings.webhook_secrets:
            raise SettingError(
                "INGOT_WEBHOOK_URL needs INGOT_WEBHOOK_SECRETS, which sign the requests. "
                + SIGNING_HINT
            )
        if settings.tracing:
            check_trace_protocol(environment)
        return settings

    @classmethod
    def unknown(cls, environment: Mapping[str, str]) -> list[str]:
        """Return the variables that have the prefix but are not settings, and never were.

        They may be misspelled, or belong to another program, so they are not an error: for a
        service named ingot, Kubernetes sets `INGOT_PORT` and others.
        """
        files = {name + FILE for name in cls.secret_variables()}
        known = _by_variable().keys() | files | _CLIENT_SETTINGS | RENAMED.keys()
        return sorted(name for name in environment.keys() - known if name.startswith(PREFIX))

    @classmethod
    def renamed(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the former names of settings that the variables have, each with the present one.

        They have no effect, because nobody could say which of two names counts.
        """
        return {name: now for name, now in RENAMED.items() if name in environment}

    @classmethod
    def given(cls, environment: Mapping[str, str]) -> frozenset[str]:
        """Return the names of the settings that the variables set."""
        files = {name for name in cls.secret_variables() if name + FILE in environment}
        return frozenset(
            item.name
            for name, item in _by_variable().items()
            if name in environment or name in files
        )

    @classmethod
    def secret_variables(cls) -> frozenset[str]:
        """Return the variables whose value may also be in a file.

        If there is a setting that names a file for the same purpose, that one decides alone.
        """
        variables = _by_variable()
        return frozenset(
            name
            for name, item in variables.items()
            if item.metadata["secret"] and name + FILE not in variables
        )

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with changes."""
        return dataclasses.replace(self, **changes)

    def environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads, for a child process."""
        return {
            PREFIX + item.name.upper(): format_value(getattr(self, item.name))
            for item in dataclasses.fields(self)
        }


def _by_variable() -> dict[str, dataclasses.Field[Any]]:
    return {PREFIX + item.name.upper(): item for item in dataclasses.fields(Settings)}


# Former names of settings, and their present ones.
RENAMED: Final = {
    "INGOT_EXISTENCE_CHECK": "INGOT_PREFLIGHT",
    "INGOT_EXISTENCE_TTL": "INGOT_PREFLIGHT_TTL",
    "INGOT_SOURCE_PATIENCE": "INGOT_SOURCE_WAIT_TIMEOUT",
}
# The client reads these, and may run in the same environment.
_CLIENT_SETTINGS: Final = frozenset(
    {"INGOT_SERVER", "INGOT_TOKEN", "INGOT_CA", "INGOT_CERTIFICATE", "INGOT_KEY"}
)


def _read(name: str, text: str, item: dataclasses.Field[Any]) -> object:
    value = parse_value(name, text, type(item.default))
    check = item.metadata["check"]
    try:
        if check is not None:
            check(text)
    except StoreUrlError as error:
        raise SettingError(f"{name}: {error}") from None
    return value
