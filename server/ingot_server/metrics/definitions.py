"""Every metric of Ingot: the one list of their names, labels and meanings.

docs/reference/metrics.md is generated from it. Names follow Prometheus' conventions,
https://prometheus.io/docs/practices/naming: base units, and `_total` for counters. The values of
`state`, `kind`, `stage`, `reason` and `code` are the names in the contract, without their prefixes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from ingot_server.metrics.metric import Kind, Merge, Metric, Origin
from ingot_server.metrics.values import VALUES

SOURCES: Final = (
    *("youtube", "telegram", "telegram_file", "internal", "upload", "web", "http"),
    "convert",
)
"""The values of a label `source`; `convert` is for media that conversions have made."""

_SECONDS_OF_CALLS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_SECONDS_OF_JOBS: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)

BUILD: Final = Metric(
    "ingot_build_info",
    Kind.INFO,
    Origin.BOTH,
    "The version of Ingot.",
    ("version",),
)
CALLS: Final = Metric(
    "ingot_calls_total",
    Kind.COUNTER,
    Origin.SERVER,
    "Calls that have ended, on every protocol, also refused ones. A watch counts when it ends.",
    ("method", "code"),
)
CALL_SECONDS: Final = Metric(
    "ingot_call_duration_seconds",
    Kind.HISTOGRAM,
    Origin.SERVER,
    "How long calls took in the server. Streams are not in it: they last as long as callers like.",
    ("method",),
    _SECONDS_OF_CALLS,
)
CACHE_REQUESTS: Final = Metric(
    "ingot_cache_requests_total",
    Kind.COUNTER,
    Origin.SERVER,
    "Requests for media by what they found: `hit` is stored already, `negative_hit` is known to "
    "fail, `joined` shares a job that another request has made, and `new` made a job. Equal "
    "requests of one caller at the same moment count once.",
    ("result",),
)
SUBSCRIPTION_CHECKS: Final = Metric(
    "ingot_subscription_checks_total",
    Kind.COUNTER,
    Origin.SERVER,
    "Checks of subscriptions that have ended. `reason` is empty for those that have not failed.",
    ("reason",),
)
SUBSCRIPTION_JOBS: Final = Metric(
    "ingot_subscription_jobs_total",
    Kind.COUNTER,
    Origin.SERVER,
    "Jobs that were made of new entries of subscriptions.",
)
STORE_UP: Final = Metric(
    "ingot_store_up",
    Kind.GAUGE,
    Origin.SERVER,
    "Whether Redis (`redis`) or the bucket (`s3`) can be used, as the server's health says.",
    ("store",),
    merge=Merge.LEAST,
)
CERTIFICATE_EXPIRY: Final = Metric(
    "ingot_certificate_expiry_timestamp_seconds",
    Kind.GAUGE,
    Origin.SERVER,
    "When the first certificate of the server's chain expires, in seconds since 1970.",
    merge=Merge.LEAST,
)
JOBS: Final = Metric(
    "ingot_jobs",
    Kind.GAUGE,
    Origin.INSTALLATION,
    "Jobs that have not ended. `state` is QUEUED or RUNNING.",
    ("kind", "state"),
)
QUEUE_AGE: Final = Metric(
    "ingot_queue_oldest_age_seconds",
    Kind.GAUGE,
    Origin.INSTALLATION,
    "How long ago the oldest queued job was made. 0 if none is queued.",
    ("kind",),
)
WORKERS: Final = Metric(
    "ingot_workers",
    Kind.GAUGE,
    Origin.INSTALLATION,
    "Workers that run, by the kind of work that they do: `fetch` or `convert`. One that does both "
    "counts for both.",
    ("work",),
)
BREAKER_OPEN: Final = Metric(
    "ingot_source_breaker_open",
    Kind.GAUGE,
    Origin.INSTALLATION,
    "Whether the circuit breaker of the source is open, because it refuses the installation.",
    ("source",),
)
COOKIES: Final = Metric(
    "ingot_source_cookies",
    Kind.GAUGE,
    Origin.INSTALLATION,
    "1 for the state of a source's cookies, as ListSources names it, and 0 for the other states. "
    "Only sources with cookies have it.",
    ("source", "state"),
)
REDIS_USED: Final = Metric(
    "ingot_redis_used_bytes",
    Kind.GAUGE,
    Origin.INSTALLATION,
    "Memory that Redis uses.",
)
REDIS_LIMIT: Final = Metric(
    "ingot_redis_limit_bytes",
    Kind.GAUGE,
    Origin.INSTALLATION,
    "Memory that Redis may use (`maxmemory`). 0 means no limit.",
)
JOBS_ENDED: Final = Metric(
    "ingot_jobs_ended_total",
    Kind.COUNTER,
    Origin.BOTH,
    "Jobs that have ended, without those of Resolve. What a call gets from the cache is no job. "
    "`reason` is empty for one that has succeeded.",
    ("state", "kind", "reason", "source"),
)
ATTEMPTS_FAILED: Final = Metric(
    "ingot_attempts_failed_total",
    Kind.COUNTER,
    Origin.WORKER,
    "Attempts of jobs that have failed. Another attempt may follow.",
    ("reason", "source"),
)
DISPATCH_DELAY: Final = Metric(
    "ingot_job_dispatch_delay_seconds",
    Kind.HISTOGRAM,
    Origin.WORKER,
    "From when a job was made until a worker began it, with all that it waited for. Only first "
    "attempts are in it, and no entries of lists.",
    ("work",),
    _SECONDS_OF_JOBS,
)
FIRST_PROGRESS: Final = Metric(
    "ingot_job_first_progress_seconds",
    Kind.HISTOGRAM,
    Origin.WORKER,
    "From when a job was made until its first measured progress. Only first attempts are in it, "
    "and no entries of lists.",
    ("work",),
    _SECONDS_OF_JOBS,
)
STAGE_SECONDS: Final = Metric(
    "ingot_job_stage_duration_seconds",
    Kind.HISTOGRAM,
    Origin.WORKER,
    "How long jobs were in a stage, each time that a worker ran them in it.",
    ("stage",),
    _SECONDS_OF_JOBS,
)
RECEIVED_BYTES: Final = Metric(
    "ingot_received_bytes_total",
    Kind.COUNTER,
    Origin.BOTH,
    "Bytes that jobs and uploads have received. Those of jobs count when an attempt has ended.",
    ("source",),
)
STORED_BYTES: Final = Metric(
    "ingot_stored_bytes_total",
    Kind.COUNTER,
    Origin.WORKER,
    "Bytes of the files of media items that were stored, also of conversions.",
    ("source",),
)
LEASE_LOSSES: Final = Metric(
    "ingot_lease_losses_total",
    Kind.COUNTER,
    Origin.WORKER,
    "Jobs that have lost their worker. The worker that recovers such a job counts it.",
)
ATTEMPTS_ABANDONED: Final = Metric(
    "ingot_attempts_abandoned_total",
    Kind.COUNTER,
    Origin.WORKER,
    "Attempts that a worker gave up because it no longer held their lease, without cancelled jobs.",
)
GUARD_REFUSALS: Final = Metric(
    "ingot_guard_refusals_total",
    Kind.COUNTER,
    Origin.BOTH,
    "Requests that the guard has refused, by the error type of RFC 9209. "
    "`destination_ip_prohibited` is an address that may not be reached.",
    ("error",),
)
SCRATCH_FREE: Final = Metric(
    "ingot_scratch_free_bytes",
    Kind.GAUGE,
    Origin.WORKER,
    "Free space of the disk with the scratch directory.",
    merge=Merge.LEAST,
)
SCRATCH_SIZE: Final = Metric(
    "ingot_scratch_size_bytes",
    Kind.GAUGE,
    Origin.WORKER,
    "Size of that disk.",
    merge=Merge.MOST,
)
CHILD_PROCESSES: Final = Metric(
    "ingot_child_processes",
    Kind.GAUGE,
    Origin.BOTH,
    "Processes that run for jobs: extractions, probes, cuts and ffmpeg.",
)
EXTRACTOR: Final = Metric(
    "ingot_extractor_info",
    Kind.INFO,
    Origin.WORKER,
    "The version of yt-dlp that the next job gets.",
    ("version",),
)
EXTRACTOR_RELEASE: Final = Metric(
    "ingot_extractor_release_timestamp_seconds",
    Kind.GAUGE,
    Origin.WORKER,
    "When that version was released, as its name says, in seconds since 1970.",
    merge=Merge.LEAST,
)

METRICS: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))
"""All of them, in this order."""


def source_label(source: str) -> str:
    """Return the source that a media item counts for. The extractors of yt-dlp are the `web`."""
    return source if source in SOURCES else "web"


def share_values(path: Path) -> None:
    """Keep the values of this process in files, see `Values.share`."""
    gauges = {each.name: each.merge for each in METRICS if each.kind is Kind.GAUGE}
    restart = {name: 0.0 if merge is Merge.SUM else math.nan for name, merge in gauges.items()}
    infos = {each.name: 0.0 for each in METRICS if each.kind is Kind.INFO}
    VALUES.share(path, restart=restart | infos)
