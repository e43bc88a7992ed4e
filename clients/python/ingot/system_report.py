"""The state of the installation as text, for `ingot system`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from ingot.enums import name_of
from ingot.render import size, table
from ingot.v1.job_pb2 import JobKind
from ingot.v1.system_service_pb2 import (
    GetSystemResponse,
    Problem,
    QueueStatus,
    RetentionCount,
    RetentionRule,
    WorkerStatus,
)

_QUEUE_COLUMNS = ("jobs", "queued", "running", "oldest waits")
_RULE_COLUMNS = ("rule", "removes", "due", "removed last")
_WORKER_COLUMNS = ("worker", "runs", "busy", "scratch free", "version", "yt-dlp")


def system_report(system: GetSystemResponse) -> str:
    """Return the report: what is wrong first, then the queues and the workers."""
    now = datetime.now(UTC)
    blocks = [
        "\n".join(_problems(system.problems)) or "All is well.",
        table([_QUEUE_COLUMNS, *(_queue(each, now) for each in system.queues)]),
        table([_WORKER_COLUMNS, *map(_worker, system.workers)]),
        *_rules(system),
        f"Server {system.server_version}, Redis uses {size(system.redis_used_bytes)}"
        + (f" of {size(system.redis_limit_bytes)}" if system.redis_limit_bytes else ""),
    ]
    return "\n\n".join(blocks)


def error_lines(system: GetSystemResponse) -> list[str]:
    """Return a line for each problem that keeps jobs from running, with what to do about it."""
    errors = (each for each in system.problems if each.severity == Problem.SEVERITY_ERROR)
    return list(_problems(errors))


def _problems(problems: Iterable[Problem]) -> Iterator[str]:
    for problem in problems:
        severity = name_of(Problem.Severity, problem.severity).lower()
        yield f"{severity}: {problem.summary} {problem.remedy}"


def _queue(queue: QueueStatus, now: datetime) -> tuple[str, ...]:
    waits = ""
    if queue.HasField("oldest_queued_time"):
        age = now - queue.oldest_queued_time.ToDatetime(UTC)
        waits = f"{max(0, round(age.total_seconds()))} s"
    kind = name_of(JobKind, queue.kind).lower().replace("_", " ")
    return (kind, str(queue.queued), str(queue.running), waits)


def _rules(system: GetSystemResponse) -> Iterator[str]:
    """Yield the table of the rules of retention, if there are any."""
    if system.retention.rules:
        yield table([_RULE_COLUMNS, *map(_rule, system.retention.rules)])


def _rule(rule: RetentionRule) -> tuple[str, ...]:
    return (rule.name, rule.description, _count(rule.due), _count(rule.removed))


def _count(count: RetentionCount) -> str:
    return f"{count.media_items} ({size(count.size_bytes)})"


def _role(worker: WorkerStatus) -> str:
    if worker.runs_all_jobs:
        return "all jobs"
    return "conversions" if worker.converts else "all other jobs"


def _worker(worker: WorkerStatus) -> tuple[str, ...]:
    return (
        worker.id,
        _role(worker),
        f"{worker.running} of {worker.slots}",
        size(worker.scratch_free_bytes),
        worker.version,
        worker.extractor_version,
    )
