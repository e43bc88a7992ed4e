"""Why things fail: one exception, and one table that says how each reason is treated.

    Exception
    └── Failure        carries a Reason of the contract, a message for people, and metadata

Foreign exceptions become a Failure where their library is called; a Failure becomes a gRPC status
in `api/status.py` and `Job.error` in the worker, both through `Failure.status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason

DOMAIN: Final = "ingot.v1"
PREFIX: Final = "REASON_"


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one reason is treated: its google.rpc.Code, and whether and how long it holds."""

    code: int
    transient: bool = False
    cached_for: timedelta = timedelta(0)


_TRANSIENT: Final = Treatment(code_pb2.UNAVAILABLE, transient=True)
_REFUSED: Final = Treatment(code_pb2.FAILED_PRECONDITION)
_WITHHELD: Final = Treatment(code_pb2.PERMISSION_DENIED, cached_for=timedelta(minutes=1))

TREATMENTS: Final[Mapping[Reason.ValueType, Treatment]] = {
    reason_pb2.REASON_INVALID_REQUEST: Treatment(code_pb2.INVALID_ARGUMENT),
    reason_pb2.REASON_UNSUPPORTED_URL: Treatment(code_pb2.INVALID_ARGUMENT),
    reason_pb2.REASON_ADDRESS_FORBIDDEN: Treatment(code_pb2.PERMISSION_DENIED),
    reason_pb2.REASON_JOB_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_MEDIA_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_ETAG_MISMATCH: Treatment(code_pb2.ABORTED),
    reason_pb2.REASON_REQUEST_ID_REUSED: Treatment(code_pb2.ALREADY_EXISTS),
    reason_pb2.REASON_TOO_MANY_WATCHES: Treatment(code_pb2.RESOURCE_EXHAUSTED, transient=True),
    reason_pb2.REASON_CANCELLED: Treatment(code_pb2.CANCELLED),
    reason_pb2.REASON_MEDIA_DOES_NOT_EXIST: Treatment(
        code_pb2.NOT_FOUND, cached_for=timedelta(minutes=10)
    ),
    reason_pb2.REASON_PRIVATE: _WITHHELD,
    reason_pb2.REASON_GEO_BLOCKED: Treatment(
        code_pb2.FAILED_PRECONDITION, cached_for=timedelta(minutes=1)
    ),
    reason_pb2.REASON_BOT_CHECK: _TRANSIENT,
    reason_pb2.REASON_RATE_LIMITED: Treatment(code_pb2.RESOURCE_EXHAUSTED, transient=True),
    reason_pb2.REASON_HOST_NOT_FOUND: _TRANSIENT,
    reason_pb2.REASON_SOURCE_UNREACHABLE: _TRANSIENT,
    reason_pb2.REASON_SOURCE_FAILED: _TRANSIENT,
    reason_pb2.REASON_TOO_MANY_REDIRECTS: _REFUSED,
    reason_pb2.REASON_STALLED: _TRANSIENT,
    reason_pb2.REASON_TRUNCATED: Treatment(code_pb2.DATA_LOSS, transient=True),
    reason_pb2.REASON_TOO_LARGE: _REFUSED,
    reason_pb2.REASON_TOO_LONG: _REFUSED,
    reason_pb2.REASON_NOT_MEDIA: _REFUSED,
    reason_pb2.REASON_SELECTION_UNAVAILABLE: _REFUSED,
    reason_pb2.REASON_MEMBERS_ONLY: _WITHHELD,
    reason_pb2.REASON_AGE_RESTRICTED: _WITHHELD,
    reason_pb2.REASON_LIVE_STREAM: _REFUSED,
    reason_pb2.REASON_UPCOMING: Treatment(
        code_pb2.FAILED_PRECONDITION, cached_for=timedelta(minutes=1)
    ),
    reason_pb2.REASON_FILE_TOO_LARGE: _REFUSED,
    reason_pb2.REASON_EXTRACTION_FAILED: _TRANSIENT,
    reason_pb2.REASON_EXTRACTOR_CRASHED: _TRANSIENT,
    reason_pb2.REASON_SOURCE_NOT_CONFIGURED: _REFUSED,
    reason_pb2.REASON_TOO_MANY_ENTRIES: _REFUSED,
    reason_pb2.REASON_ENTRIES_FAILED: _REFUSED,
    reason_pb2.REASON_BUCKET_FORBIDDEN: Treatment(code_pb2.PERMISSION_DENIED),
    reason_pb2.REASON_UPLOAD_NOT_FOUND: Treatment(code_pb2.NOT_FOUND),
    reason_pb2.REASON_UPLOAD_OFFSET_MISMATCH: Treatment(code_pb2.OUT_OF_RANGE),
    reason_pb2.REASON_CHECKSUM_MISMATCH: Treatment(code_pb2.DATA_LOSS),
    reason_pb2.REASON_CONVERSION_FAILED: _REFUSED,
    reason_pb2.REASON_CONVERTER_CRASHED: _TRANSIENT,
    reason_pb2.REASON_STORAGE_UNAVAILABLE: _TRANSIENT,
    reason_pb2.REASON_CACHE_UNAVAILABLE: _TRANSIENT,
    reason_pb2.REASON_QUEUE_UNAVAILABLE: _TRANSIENT,
    reason_pb2.REASON_SCRATCH_FULL: Treatment(code_pb2.RESOURCE_EXHAUSTED, transient=True),
    reason_pb2.REASON_WORKER_LOST: Treatment(code_pb2.ABORTED),
    reason_pb2.REASON_STAGE_TIMEOUT: Treatment(code_pb2.DEADLINE_EXCEEDED),
    reason_pb2.REASON_SHUTTING_DOWN: _TRANSIENT,
    reason_pb2.REASON_INTERNAL: Treatment(code_pb2.INTERNAL),
}


class Failure(Exception):
    """A call or a job that failed for a reason of the contract.

    `message` tells a person what happened and what to do. `metadata` goes into
    google.rpc.ErrorInfo; `violations` maps a request field's path to what is wrong with it and
    goes into google.rpc.BadRequest. `retry_after` goes into google.rpc.RetryInfo when transient.

    Two words to the worker, which nobody else sees: `deferred`, the job has not begun and waits for
    its turn, so this was no attempt; `final`, no other try can help, or has the time.
    """

    def __init__(
        self,
        reason: Reason.ValueType,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Mapping[str, str] | None = None,
        retry_after: timedelta = timedelta(seconds=1),
        deferred: bool = False,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = _text(message)
        self.metadata = {name: _text(value) for name, value in (metadata or {}).items()}
        self.violations = dict(violations or {})
        self.retry_after = retry_after
        self.deferred = deferred
        self.final = final

    def __repr__(self) -> str:
        return f"Failure({reason_name(self.reason)}, {self.message!r})"

    @property
    def treatment(self) -> Treatment:
        return TREATMENTS[self.reason]

    @property
    def transient(self) -> bool:
        return self.treatment.transient

    def status(self) -> Status:
        """The failure as google.rpc.Status with exactly one ErrorInfo (AIP-193)."""
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
        if self.transient:
            delay = Duration()
            delay.FromTimedelta(self.retry_after)
            _pack(status, RetryInfo(retry_delay=delay))
        return status

    @classmethod
    def from_status(cls, status: Status) -> Failure:
        """The failure that `status` was made from; INTERNAL when it is none of ours."""
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


def reason_name(reason: Reason.ValueType) -> str:
    """The reason as ErrorInfo carries it: without the enum's prefix."""
    return Reason.Name(reason).removeprefix(PREFIX)


def _text(foreign: str) -> str:
    """What a source said may hold bytes that are no UTF-8; a status may not."""
    return foreign.encode(errors="replace").decode()


def _pack(status: Status, detail: ErrorInfo | BadRequest | RetryInfo) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
