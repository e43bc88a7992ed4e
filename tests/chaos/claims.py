"""The promises, each as a function that returns what breaks it. Its name says the promise.

They look at evidence from outside: what callers were told, what the gateway saw on its way to the
bucket, and what is there at the end. None relies on how Ingot keeps the promise.
"""

from __future__ import annotations

import base64
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from google.protobuf.timestamp_pb2 import Timestamp

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.jobs.journal_index import ENDS_KEPT
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.library.manifest import files_of
from tests.chaos.evidence import Evidence
from tests.chaos.faults import LONGEST_LAG_SECONDS
from tests.chaos.gateway import Commit
from tests.chaos.history import AcceptedJob, describe, state_name

# How much later than its lease a PUT may be seen: signatures count in seconds, and S3 may be slow.
_SLACK_SECONDS = 3.0
# How long an end may not be in the bucket, and how long nothing may disturb it on its way there.
_UNWRITTEN_SECONDS = 12.0
_CALM_SECONDS = 2.0
_ENDS_SECONDS = ENDS_KEPT.total_seconds() + 120


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one claim."""

    claim: str
    checked: int
    """How many things were looked at."""
    violations: list[str]


class Check:
    """Counts what a claim looks at, and keeps what breaks it."""

    def __init__(self) -> None:
        self.checked = 0
        self.violations: list[str] = []

    def that(self, holds: object, violation: str) -> None:
        self.checked += 1
        if not holds:
            self.violations.append(violation)


def every_accepted_job_ended(evidence: Evidence, check: Check) -> None:
    for job in evidence.history.jobs.values():
        unknown = ", no server knows it" if job.unknown_since is not None else ""
        check.that(job.end is not None, f"{describe(job)}{unknown}")


def no_job_ended_twice(evidence: Evidence, check: Check) -> None:
    for job in evidence.history.jobs.values():
        states = {(end.state, end.epoch, end.revision) for end in job.ends}
        check.that(len(states) < 2, f"{describe(job)}: several ends {states}")


def no_watcher_saw_a_job_go_back(evidence: Evidence, check: Check) -> None:
    for job in evidence.history.jobs.values():
        check.that(not job.broken_orders, f"{describe(job)}: {job.broken_orders}")


def every_server_knows_each_job_with_its_end(evidence: Evidence, check: Check) -> None:
    """The record of an ended job may be lost with Redis; the bucket has its media item."""
    for number, records in enumerate(evidence.records):
        for job in evidence.history.jobs.values():
            record = records.get(job.id)
            if job.end is None or may_run_again(evidence, job):
                continue
            if record is None and _is_lost_between(evidence, job.end_seen, time.time()):
                continue
            check.that(
                record is not None and record.state == job.end.state,
                f"{describe(job)}, but server {number} says "
                f"{state_name(record) if record is not None else 'that there is none'}",
            )


def what_was_cancelled_stays_cancelled(evidence: Evidence, check: Check) -> None:
    """Nothing else is heard of a job after CancelJob has said so, and it commits nothing."""
    history = evidence.history
    for job_id, answered in history.cancelled.items():
        job = history.jobs[job_id]
        states = [records.get(job_id) for records in evidence.records]
        others = {state_name(state) for state in (job.latest, *states) if state is not None} - {
            "CANCELLED"
        }
        check.that(not others, f"{describe(job)}: {others} after it was cancelled")
        for commit in _first_commits(evidence):
            if commit.job_id == job_id:
                late = commit.time - answered
                check.that(
                    late <= evidence.lease_seconds + _SLACK_SECONDS,
                    f"{describe(job)}: {_described(commit)} arrived {late:.1f} s later",
                )


def every_child_of_a_job_ended(evidence: Evidence, check: Check) -> None:
    """A parent that has ended keeps the ids of children whose records Redis has lost."""
    for records in evidence.records:
        parents = {
            child: record
            for record in records.values()
            if record is not None
            for child in record.child_job_ids
        }
        for job_id, record in records.items():
            if job_id in evidence.history.jobs:
                continue
            if record is None and has_ended(parents[job_id]):
                check.that(
                    _is_lost_between(evidence, _made_at(job_id), time.time()),
                    f"child {job_id}: unknown",
                )
            else:
                check.that(
                    record is not None and has_ended(record),
                    f"child {job_id}: {state_name(record) if record is not None else 'unknown'}",
                )


def no_job_succeeded_without_media(evidence: Evidence, check: Check) -> None:
    """Its media item was committed, and is there unless it was deleted or replaced later."""
    blobs = {commit.manifest.media.blob.url for commit in evidence.commits}
    blobs.update(manifest.media.blob.url for manifest in evidence.manifests.values())
    for job in _succeeded(evidence):
        check.that(job.latest.media.blob.url in blobs, f"{describe(job)}: no manifest names it")


def no_media_was_lost(evidence: Evidence, check: Check) -> None:
    """What was committed and not deleted is stored."""
    stored = {each.media.id for each in evidence.stored}
    last = {commit.media_id: commit for commit in evidence.commits}
    for media_id, commit in last.items():
        if not commit.is_tombstone:
            check.that(media_id in stored, f"media {media_id}, of job {commit.job_id}")


def every_hit_has_its_whole_blob(evidence: Evidence, check: Check) -> None:
    for each in evidence.stored:
        blob = each.media.blob
        check.that(
            (each.sha256, each.size_bytes) == (blob.sha256, blob.size_bytes),
            f"media {each.media.id} by {each.how}: {blob.size_bytes} bytes are promised, "
            f"{each.size_bytes} were read. {each.error}",
        )


def every_hit_is_what_its_source_has_served(evidence: Evidence, check: Check) -> None:
    sources = evidence.sources
    for each in evidence.stored:
        if each.media.derived_from_media_id or each.error:
            continue
        served = sources.served.get(each.media.url)
        known = served.versions if served is not None else sources.contents
        check.that(each.sha256 in known, f"media {each.media.id} of {each.media.url}")
    for wrong in evidence.history.wrong_bytes:
        check.that(False, f"a download of media {wrong}")


def callers_who_want_the_same_share_a_job(evidence: Evidence, check: Check) -> None:
    """No two jobs fetch one media item at the same time, unless Redis has lost one of them."""
    if evidence.clocks_jumped:
        return
    jobs: dict[str, dict[str, Job]] = defaultdict(dict)
    for records in evidence.records:
        for record in records.values():
            if record is not None and not record.cached and _fetches(record):
                jobs[record.media.id][record.id] = record
    for media_id, of_media in jobs.items():
        ordered = sorted(of_media.values(), key=lambda job: job.create_time.ToNanoseconds())
        for former, later in pairwise(ordered):
            begin, end = former.create_time, max(former.end_time, later.create_time, key=_seconds)
            if _is_lost_between(evidence, _seconds(begin), _seconds(end)):
                continue
            check.that(
                former.end_time.ToNanoseconds() <= later.create_time.ToNanoseconds()
                or not has_ended(former),
                f"media {media_id}: the jobs {former.id} and {later.id} ran at the same time",
            )


def a_repeated_request_returns_the_same_job(evidence: Evidence, check: Check) -> None:
    for each in evidence.history.repeated:
        if _is_lost_between(evidence, each.begin, each.end):
            continue
        check.that(
            each.first_job == each.second_job,
            f"request {each.request_id}: the jobs {each.first_job} and {each.second_job}",
        )


def there_is_one_commit_per_id_and_version(evidence: Evidence, check: Check) -> None:
    """A manifest is replaced only by one of a new version, unless it was deleted between."""
    for media_id, commits in _by_media(evidence).items():
        for former, later in pairwise(commits):
            if former.is_tombstone or later.is_tombstone:
                continue
            before, after = former.manifest.media, later.manifest.media
            check.that(
                before.blob.url == after.blob.url or _version(former) != _version(later),
                f"media {media_id}: {_described(later)} replaced the same version of "
                f"{_described(former)}",
            )


def no_deleted_media_came_back_without_an_ingest(evidence: Evidence, check: Check) -> None:
    """After a deletion, no manifest of before it returns, and no job commits that had ended."""
    ends = _ends_seen(evidence)
    for media_id, commits in _by_media(evidence).items():
        buried: set[str] = set()
        committed: set[str] = set()
        deleted_at = 0.0
        for commit in commits:
            blob = commit.manifest.media.blob.url
            if commit.is_tombstone:
                buried |= committed
                deleted_at = commit.time
                continue
            committed.add(blob)
            had_ended = ends.get(commit.job_id, deleted_at) < deleted_at
            check.that(
                blob not in buried and not had_ended,
                f"media {media_id}: {_described(commit)} came after its deletion",
            )


def no_commit_arrives_later_than_the_lease_of_its_job(evidence: Evidence, check: Check) -> None:
    ends = _ends_seen(evidence)
    latest = evidence.lease_seconds + _SLACK_SECONDS
    for commit in _first_commits(evidence):
        if commit.job_id not in ends:
            continue
        late = commit.time - ends[commit.job_id]
        check.that(
            late <= latest,
            f"media {commit.media_id}: {_described(commit)} arrived {late:.1f} s after its job",
        )


def after_gc_nothing_is_unreferenced(evidence: Evidence, check: Check) -> None:
    named = {
        url.partition("/media/")[2]
        for manifest in evidence.manifests.values()
        for url in files_of(manifest.media)
    }
    for key in evidence.keys:
        folder, _, name = key.partition("/")
        match folder:
            case "media":
                is_named = key.endswith("/media.json") or name in named
            case "alias":
                is_named = True
            case "journal":
                is_recent = evidence.clocks_jumped or time.time() - _made_at(name) < _ENDS_SECONDS
                is_named = name.endswith("-ends") and is_recent
            case _:
                is_named = folder in {"index", "scrub"}
        check.that(is_named, key)
    for media_id, manifest in evidence.manifests.items():
        check.that(manifest.HasField("media"), f"the tombstone of {media_id}")


def every_file_of_a_manifest_is_there(evidence: Evidence, check: Check) -> None:
    keys = set(evidence.keys)
    for media_id, manifest in evidence.manifests.items():
        for url in files_of(manifest.media):
            key = "media/" + url.partition("/media/")[2]
            check.that(key in keys, f"media {media_id}: {key}")


def no_multipart_upload_is_left(evidence: Evidence, check: Check) -> None:
    check.checked = 1
    check.violations = evidence.multipart_uploads


def no_process_is_left(evidence: Evidence, check: Check) -> None:
    check.checked = 1
    check.violations = evidence.processes


def no_process_ended_by_itself(evidence: Evidence, check: Check) -> None:
    """Whatever happens to Redis and to the bucket, processes that were ready wait and go on."""
    check.checked = 1
    check.violations = evidence.ended_processes


def no_scratch_file_is_left(evidence: Evidence, check: Check) -> None:
    check.checked = 1
    check.violations = evidence.scratch


def no_lease_slot_or_permit_is_left(evidence: Evidence, check: Check) -> None:
    check.checked = 1
    check.violations = evidence.held


CLAIMS: tuple[Callable[[Evidence, Check], None], ...] = (
    every_accepted_job_ended,
    no_job_ended_twice,
    no_watcher_saw_a_job_go_back,
    every_server_knows_each_job_with_its_end,
    what_was_cancelled_stays_cancelled,
    every_child_of_a_job_ended,
    no_job_succeeded_without_media,
    no_media_was_lost,
    every_hit_has_its_whole_blob,
    every_hit_is_what_its_source_has_served,
    callers_who_want_the_same_share_a_job,
    a_repeated_request_returns_the_same_job,
    there_is_one_commit_per_id_and_version,
    no_deleted_media_came_back_without_an_ingest,
    no_commit_arrives_later_than_the_lease_of_its_job,
    after_gc_nothing_is_unreferenced,
    every_file_of_a_manifest_is_there,
    no_multipart_upload_is_left,
    no_process_is_left,
    no_process_ended_by_itself,
    no_scratch_file_is_left,
    no_lease_slot_or_permit_is_left,
)


def check_claims(evidence: Evidence) -> list[Finding]:
    """Check every promise."""
    findings = []
    for claim in CLAIMS:
        check = Check()
        claim(evidence, check)
        findings.append(Finding(claim.__name__, check.checked, check.violations))
    return findings


def _succeeded(evidence: Evidence) -> Iterator[AcceptedJob]:
    """Jobs that have made a media item of their own."""
    for job in evidence.history.jobs.values():
        if job.latest.state == job_pb2.JOB_STATE_SUCCEEDED and job.kind != "playlist":
            yield job


def _fetches(job: Job) -> bool:
    """Whether its media id is known from the beginning, and shared: not that of an upload."""
    is_page = "/Mediasite/" in job.url
    return job.kind == job_pb2.JOB_KIND_INGEST and job.url.startswith("http") and not is_page


def may_run_again(evidence: Evidence, job: AcceptedJob) -> bool:
    """Whether it ended by itself, and the bucket may not have known when Redis lost data.

    A worker writes ends within two seconds, if it can use Redis and the bucket for so long.
    """
    return job.id not in evidence.history.cancelled and any(
        job.end_seen - loss <= _SLACK_SECONDS and _is_unwritten(evidence, job.end_seen, loss)
        for loss in evidence.redis_losses
    )


def _is_unwritten(evidence: Evidence, end_seen: float, loss: float) -> bool:
    latest = loss - LONGEST_LAG_SECONDS
    if end_seen >= latest - _UNWRITTEN_SECONDS:
        return True
    at = end_seen
    for begin, end in sorted(evidence.disturbances):
        if end > at:
            if min(begin, latest) - at >= _CALM_SECONDS:
                return False
            at = end
    return latest - at < _CALM_SECONDS


def _is_lost_between(evidence: Evidence, begin: float, end: float) -> bool:
    """Whether Redis lost data between two times."""
    return any(begin <= loss <= end + _SLACK_SECONDS for loss in evidence.redis_losses)


def _seconds(time_of: Timestamp) -> float:
    return time_of.ToNanoseconds() / 1e9


def _ends_seen(evidence: Evidence) -> dict[str, float]:
    """When a watcher saw the end of each job that does not run again."""
    return {
        job.id: job.end_seen
        for job in evidence.history.jobs.values()
        if job.end is not None and not may_run_again(evidence, job)
    }


def _made_at(identifier: str) -> float:
    """When the id of a job or the name of a group of the journal was made, by time.time()."""
    return int.from_bytes(base64.b32hexdecode(identifier[:16].upper())[:7], "big") / 1e6


def _by_media(evidence: Evidence) -> dict[str, list[Commit]]:
    found: dict[str, list[Commit]] = defaultdict(list)
    for commit in evidence.commits:
        found[commit.media_id].append(commit)
    return found


def _first_commits(evidence: Evidence) -> list[Commit]:
    """The first commit of each file. Later ones say that its source has not changed."""
    found: dict[str, Commit] = {}
    for commit in evidence.commits:
        if not commit.is_tombstone:
            found.setdefault(commit.manifest.media.blob.url, commit)
    return list(found.values())


def _version(commit: Commit) -> tuple[str, str]:
    """What the file was made of: the bytes of the source, or those of the parent."""
    media = commit.manifest.media
    return media.derived_from_sha256 or media.blob.sha256, commit.manifest.source_version.http_etag


def _described(commit: Commit) -> str:
    late = " (late)" if commit.is_late else ""
    return f"{commit.manifest.media.blob.url.rpartition('/')[2]}{late}"
