"""Why calls and jobs fail: one exception, and one table with a row for each reason.

    Exception
    └── Failure        a Reason of the contract, a message for people, and metadata

The code that calls a library translates its exceptions into a Failure. `api/status.py` makes a gRPC
status of a Failure, and the worker makes a `Job.error` of it, both with `Failure.status`.

To add a reason, add it to `reason.proto` and to TREATMENTS; tests check that the two agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.reason_names import PREFIX as PREFIX
from ingot_server.reason_names import reason_name as reason_name
from ingot_server.redaction import redact

DOMAIN: Final = "ingot.v1"
# A message may quote a source, and a job's record and its watches carry it.
_MESSAGE_CHARACTERS: Final = 4000
_METADATA_CHARACTERS: Final = 1000


class SourceOutcome(StrEnum):
    """What a reason says about the source: the input of its circuit breaker."""

    UNKNOWN = ""
    """Nothing: the failure may be our own."""
    AVAILABLE = "available"
    """The source serves our requests, whatever it says about the media item."""
    RATE_LIMITED = "rate_limited"
    """The source says that it gets too many requests."""
    REFUSED = "refused"
    """The source refuses this server."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one reason is treated."""

    code: int
    """A google.rpc.Code."""
    transient: bool = False
    """Whether another attempt may succeed."""
    cached_for: timedelta = timedelta(0)
    """How long the negative cache keeps it; zero means not at all."""
    outcome: SourceOutcome = SourceOutcome.UNKNOWN
    cookies_may_help: bool = False
    """Whether the source may return the media item to a request with cookies."""
    is_quota: bool = False
    """Whether the caller itself has used up what it may have."""


_TRANSIENT: Final = Treatment(code_pb2.UNAVAILABLE, transient=True)
_QUOTA: Final = Treatment(code_pb2.RESOURCE_EXHAUSTED, transient=True, is_quota=True)
_IMPOSSIBLE: Final = Treatment(code_pb2.FAILED_PRECONDITION)
_IMPOSSIBLE_HERE: Final = Treatment(code_pb2.FAILED_PRECONDITION, outcome=SourceOutcome.AVAILABLE)
_WITHHELD: Final = Treatment(
    code_pb2.PERMISSION_DENIED,
    cached_for=timedelta(minutes=1),
    outcome=SourceOutcome.AVAILABLE,
    cookies_may_help=True,
)
_NOT_NOW: Final = Treatment(
    code_pb2.FAILED_PRECONDITION,
    cached_for=timedelta(minutes=1),
    outcome=SourceOutcome.AVAILABLE,
)

TREATMENTS: Final[Mapping[Reason.ValueType, Treatment]] = {
    reason_pb2.REASON_INVALID_REQUEST: Treatment(code_pb2.INVALID_ARGUMENT),
    reason_pb2.REASON_UNSUPPORTED_URL: Treatment(code_pb2.INVALID_ARGUMENT),
    reason_pb2.REASON_ADDRESS_FORBIDDEN: Treatment(code_pb2.PERMISSION_DENIED),
    reason_pb2.REASON_JOB_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_MEDIA_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_ETAG_MISMATCH: Treatment(code_pb2.ABORTED),
    reason_pb2.REASON_REQUEST_ID_REUSED: Treatment(code_pb2.ALREADY_EXISTS),
    reason_pb2.REASON_TOO_MANY_WATCHES: _QUOTA,
    reason_pb2.REASON_TOO_MANY_CALLS: Treatment(code_pb2.RESOURCE_EXHAUSTED, transient=True),
    reason_pb2.REASON_JOB_NOT_FAILED: Treatment(code_pb2.FAILED_PRECONDITION),
    reason_pb2.REASON_MEDIA_DAMAGED: Treatment(code_pb2.DATA_LOSS),
    reason_pb2.REASON_CANCELLED: Treatment(code_pb2.CANCELLED),
    reason_pb2.REASON_RESUME_TOKEN_EXPIRED: _IMPOSSIBLE,
    reason_pb2.REASON_MEDIA_DOES_NOT_EXIST: Treatment(
        code_pb2.NOT_FOUND,
        cached_for=timedelta(minutes=10),
        outcome=SourceOutcome.AVAILABLE,
    ),
    reason_pb2.REASON_PRIVATE: _WITHHELD,
    reason_pb2.REASON_GEO_BLOCKED: _NOT_NOW,
    reason_pb2.REASON_BOT_CHECK: Treatment(
        code_pb2.UNAVAILABLE,
        transient=True,
        outcome=SourceOutcome.REFUSED,
        cookies_may_help=True,
    ),
    reason_pb2.REASON_RATE_LIMITED: Treatment(
        code_pb2.RESOURCE_EXHAUSTED, transient=True, outcome=SourceOutcome.RATE_LIMITED
    ),
    reason_pb2.REASON_HOST_NOT_FOUND: _TRANSIENT,
    reason_pb2.REASON_SOURCE_UNREACHABLE: _TRANSIENT,
    reason_pb2.REASON_SOURCE_FAILED: _TRANSIENT,
    reason_pb2.REASON_TOO_MANY_REDIRECTS: _IMPOSSIBLE,
    reason_pb2.REASON_STALLED: _TRANSIENT,
    reason_pb2.REASON_TRUNCATED: Treatment(code_pb2.DATA_LOSS, transient=True),
    reason_pb2.REASON_TOO_LARGE: _IMPOSSIBLE_HERE,
    reason_pb2.REASON_TOO_LONG: _IMPOSSIBLE_HERE,
    reason_pb2.REASON_NOT_MEDIA: _IMPOSSIBLE_HERE,
    reason_pb2.REASON_SELECTION_UNAVAILABLE: _IMPOSSIBLE_HERE,
    reason_pb2.REASON_MEMBERS_ONLY: _WITHHELD,
    reason_pb2.REASON_AGE_RESTRICTED: _WITHHELD,
    reason_pb2.REASON_LIVE_STREAM: _IMPOSSIBLE_HERE,
    reason_pb2.REASON_UPCOMING: _NOT_NOW,
    reason_pb2.REASON_EXTRACTION_FAILED: _TRANSIENT,
    reason_pb2.REASON_EXTRACTOR_CRASHED: _TRANSIENT,
    reason_pb2.REASON_SOURCE_NOT_CONFIGURED: _IMPOSSIBLE,
    reason_pb2.REASON_TOO_MANY_ENTRIES: _IMPOSSIBLE,
    reason_pb2.REASON_ENTRIES_FAILED: _IMPOSSIBLE,
    reason_pb2.REASON_BUCKET_FORBIDDEN: Treatment(code_pb2.PERMISSION_DENIED),
    reason_pb2.REASON_UPLOAD_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_UPLOAD_OFFSET_MISMATCH: Treatment(code_pb2.OUT_OF_RANGE),
    reason_pb2.REASON_CHECKSUM_MISMATCH: Treatment(code_pb2.DATA_LOSS),
    reason_pb2.REASON_CONVERSION_FAILED: _IMPOSSIBLE,
    reason_pb2.REASON_CONVERTER_CRASHED: _TRANSIENT,
    reason_pb2.REASON_UNSUPPORTED_CALL: Treatment(code_pb2.UNIMPLEMENTED),
    reason_pb2.REASON_REQUEST_TOO_LARGE: Treatment(code_pb2.RESOURCE_EXHAUSTED),
    reason_pb2.REASON_DEADLINE_EXCEEDED: Treatment(code_pb2.DEADLINE_EXCEEDED),
    reason_pb2.REASON_STORAGE_UNAVAILABLE: _TRANSIENT,
    reason_pb2.REASON_CACHE_UNAVAILABLE: _TRANSIENT,
    reason_pb2.REASON_QUEUE_UNAVAILABLE: _TRANSIENT,
    reason_pb2.REASON_SCRATCH_FULL: Treatment(code_pb2.RESOURCE_EXHAUSTED, transient=True),
    reason_pb2.REASON_WORKER_LOST: Treatment(code_pb2.ABORTED),
    reason_pb2.REASON_STAGE_TIMEOUT: Treatment(code_pb2.DEADLINE_EXCEEDED),
    reason_pb2.REASON_SHUTTING_DOWN: _TRANSIENT,
    reason_pb2.REASON_INTERNAL: Treatment(code_pb2.INTERNAL),
    reason_pb2.REASON_TRANSCRIPTION_NOT_CONFIGURED: _IMPOSSIBLE,
    reason_pb2.REASON_TRANSCRIPTION_FAILED: _TRANSIENT,
    reason_pb2.REASON_ORIGIN_FORBIDDEN: Treatment(code_pb2.PERMISSION_DENIED),
    reason_pb2.REASON_WEBHOOKS_NOT_CONFIGURED: _IMPOSSIBLE,
    reason_pb2.REASON_WEBHOOK_DELIVERY_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_TOO_MANY_WEBHOOKS: Treatment(code_pb2.RESOURCE_EXHAUSTED, transient=True),
    reason_pb2.REASON_SUBSCRIPTION_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_FEED_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_UNAUTHENTICATED: Treatment(code_pb2.UNAUTHENTICATED),
    reason_pb2.REASON_TOKEN_INVALID: Treatment(code_pb2.UNAUTHENTICATED),
    reason_pb2.REASON_TOKEN_EXPIRED: Treatment(code_pb2.UNAUTHENTICATED),
    reason_pb2.REASON_SCOPE_MISSING: Treatment(code_pb2.PERMISSION_DENIED),
    reason_pb2.REASON_SIGNING_KEYS_UNAVAILABLE: _TRANSIENT,
    reason_pb2.REASON_NOT_OWNER: Treatment(code_pb2.PERMISSION_DENIED),
    reason_pb2.REASON_TOO_MANY_UPLOAD_LINKS: _QUOTA,
    reason_pb2.REASON_QUOTA_EXCEEDED: _QUOTA,
    reason_pb2.REASON_WRITTEN_BY_NEWER_VERSION: _TRANSIENT,
}


class Failure(Exception):
    """The failure of a call or a job, for a reason of the contract.

    `message` says what happened and what to do; secrets in its URLs (redaction.py) and the end of a
    very long one are cut. `metadata` goes
    into google.rpc.ErrorInfo. `violations` maps the paths of request fields to what is wrong with
    them, and goes into google.rpc.BadRequest. `retry_after` goes into google.rpc.RetryInfo if the
    reason is transient.

    Only the worker reads `final`: another attempt cannot help, even if the reason is transient.
    """

    def __init__(
        self,
        reason: Reason.ValueType,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Mapping[str, str] | None = None,
        retry_after: timedelta = timedelta(seconds=1),
        final: bool = False,
    ) -> None:
        message = redact(_utf8(message))
        super().__init__(message)
        self.reason = reason
        self.message = message[:_MESSAGE_CHARACTERS]
        self.metadata = {
            name: _utf8(value)[:_METADATA_CHARACTERS] for name, value in (metadata or {}).items()
        }
        self.violations = {
            _utf8(field): redact(_utf8(description))
            for field, description in (violations or {}).items()
        }
        self.retry_after = retry_after
        self.final = final

    def __repr__(self) -> str:
        return f"Failure({reason_name(self.reason)}, {self.message!r})"

    @property
    def treatment(self) -> Treatment:
        return TREATMENTS[self.reason]

    @property
    def transient(self) -> bool:
        return self.treatment.transient

    def as_final(self) -> Failure:
        """Return the same failure, after which there is no other attempt."""
        return Failure(
            self.reason,
            self.message,
            metadata=self.metadata,
            violations=self.violations,
            retry_after=self.retry_after,
            final=True,
        )

    def status(self) -> Status:
        """Return the failure as a google.rpc.Status with exactly one ErrorInfo (AIP-193)."""
        status = Status(code=self.treatment.code, message=self.message)
        _pack(
            status,
            ErrorInfo(reason=reason_name(self.reason), domain=DOMAIN, metadata=self.metadata),
        )
        if self.violations:
            _pack(
                status,
                BadRequest(
                    field_violations=[
                        BadRequest.FieldViolation(field=field, description=description)
                        for field, description in self.violations.items()
                    ]
                ),
            )
        if self.treatment.is_quota:
            violation = QuotaFailure.Violation(subject="caller", description=self.message)
            _pack(status, QuotaFailure(violations=[violation]))
        if self.transient:
            delay = Duration()
            delay.FromTimedelta(self.retry_after)
            _pack(status, RetryInfo(retry_delay=delay))
        return status

    @classmethod
    def from_status(cls, status: Status) -> Failure:
        """Return the failure that a status was made from; INTERNAL if Ingot did not make it."""
        info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
        for detail in status.details:
            for kind in (info, request, retry):
                detail.Unpack(kind)
        name = PREFIX + info.reason
        if info.domain != DOMAIN or name not in Reason.keys():
            return cls(reason_pb2.REASON_INTERNAL, status.message or "The cause was not recorded.")
        failure = cls(
            Reason.Value(name),
            status.message,
            metadata=info.metadata,
            violations={each.field: each.description for each in request.field_violations},
        )
        if retry.HasField("retry_delay"):
            failure.retry_after = retry.retry_delay.ToTimedelta()
        return failure


def too_large(limit_bytes: int, size_bytes: int | None = None) -> Failure:
    """Return the failure of a file with more bytes than INGOT_MAX_MEDIA_SIZE, `limit_bytes`.

    `size_bytes` is the size that is known or announced; None if only the limit was reached.
    """
    size = f"{size_bytes} bytes, more" if size_bytes is not None else "more"
    return Failure(
        reason_pb2.REASON_TOO_LARGE,
        f"The file has {size} than the {limit_bytes} bytes that INGOT_MAX_MEDIA_SIZE allows. "
        "Choose a smaller one, or raise that setting on the server.",
        metadata={"limited_by": "ingot", "limit_bytes": str(limit_bytes)},
    )


def too_large_for_source(message: str, limit_bytes: int | None = None) -> Failure:
    """Return the failure of a file that its source does not send because of its size.

    `message` names the limit and another way to get the file; `limit_bytes` is None if unknown.
    """
    metadata = {"limited_by": "source"}
    if limit_bytes is not None:
        metadata["limit_bytes"] = str(limit_bytes)
    return Failure(reason_pb2.REASON_TOO_LARGE, message, metadata=metadata)


def quota_exceeded(
    quota: str, limit: int, message: str, *, retry_after: timedelta = timedelta(seconds=5)
) -> Failure:
    """Return the failure of a caller that has used up the quota of that name."""
    return Failure(
        reason_pb2.REASON_QUOTA_EXCEEDED,
        message,
        metadata={"quota": quota, "limit": str(limit)},
        retry_after=retry_after,
    )


def written_by_newer_version(what: str, version: int, newest: int) -> Failure:
    """Return the failure of reading `what`, whose schema version is greater than `newest`."""
    return Failure(
        reason_pb2.REASON_WRITTEN_BY_NEWER_VERSION,
        f"{what} was written by a newer version of Ingot, with schema version {version}; this "
        f"process reads up to {newest}. Upgrade this process (docs/upgrading.md).",
    )


def _utf8(text: str) -> str:
    """Replace what is not UTF-8: a source's message may contain such bytes, a status may not."""
    return text.encode(errors="replace").decode()


def _pack(status: Status, detail: ErrorInfo | BadRequest | QuotaFailure | RetryInfo) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
