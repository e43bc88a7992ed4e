"""What calls and jobs raise: one class for each group of reasons a caller would treat alike.

    Exception
    └── IngotError               reason, message, metadata, code, violations, retry_delay, status
        ├── InvalidRequest       the request breaks a rule; `violations` names the fields
        │   └── UnsupportedUrl   no source takes this URL
        ├── AddressForbidden     the URL leads to an address that is never dialled
        ├── Conflict             another version is stored, or the request id is taken
        ├── JobNotFound          no record of this job
        ├── MediaNotFound        not in the system
        │   └── MediaDoesNotExist    and not at its source either
        ├── JobCancelled         somebody cancelled the job
        ├── SourceRefused        the source does not let us: private, region, bot check
        ├── SourceUnavailable    the source is down, slow, broken or busy
        ├── MediaRefused         no media, too large, too long, not in this form, not to be made so
        ├── ServiceUnavailable   Ingot cannot be reached or cannot do it now
        ├── ServiceFailed        Ingot itself failed
        ├── DeadlineExceeded     no answer within the client's timeout
        └── ChecksumMismatch     the downloaded file is not the stored one

`reason` is the name of a value of `ingot.v1.Reason` without its prefix, empty when the answer did
not come from Ingot. gRPC's own exception is translated here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN: Final = "ingot.v1"
# Where gRPC carries google.rpc.Status: https://grpc.io/docs/guides/error/#richer-error-model
_STATUS_KEY: Final = "grpc-status-details-bin"

_CODES: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class IngotError(Exception):
    """A call or a job that failed.

    `message` says what happened. `code` is the gRPC code; `metadata` is what the reason documents;
    `violations` maps fields of the request to what is wrong with them. `retry_delay` is how long
    to wait before trying again, None when that is of no use. `status` holds all of it.
    """

    def __init__(self, message: str, *, reason: str = "", status: Status | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.status = status or Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message)
        self.code = _CODES.get(self.status.code, grpc.StatusCode.UNKNOWN)
        self.metadata: dict[str, str] = {}
        self.violations: dict[str, str] = {}
        self.retry_delay: timedelta | None = None
        for detail in self.status.details:
            self._read(detail)

    def _read(self, detail: Any) -> None:
        information, violations, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(information) and information.domain == DOMAIN:
            self.reason = information.reason
            self.metadata.update(information.metadata)
        elif detail.Unpack(violations):
            for violation in violations.field_violations:
                self.violations[violation.field] = violation.description
        elif detail.Unpack(retry):
            self.retry_delay = retry.retry_delay.ToTimedelta()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason or self.code.name}, {self.message!r})"


class InvalidRequest(IngotError):
    """The request breaks a rule of the contract."""


class UnsupportedUrl(InvalidRequest):
    """No source takes this URL."""


class AddressForbidden(IngotError):
    """The URL leads to a private or otherwise special address."""


class Conflict(IngotError):
    """Another version is stored, or the request id was used for another request."""


class JobNotFound(IngotError):
    """No record of this job; those of ended jobs are dropped after a while."""


class MediaNotFound(IngotError):
    """The media is not in the system."""


class MediaDoesNotExist(MediaNotFound):
    """The source says that the media does not exist."""


class JobCancelled(IngotError):
    """The job was cancelled by a caller, perhaps another one."""


class SourceRefused(IngotError):
    """The source does not let Ingot have the media."""


class SourceUnavailable(IngotError):
    """The source could not be reached, or did not send the whole media."""


class MediaRefused(IngotError):
    """What the source has cannot be taken, or not be made what was asked for."""


class ServiceUnavailable(IngotError):
    """Ingot cannot be reached, or cannot do this now."""


class ServiceFailed(IngotError):
    """Ingot failed; `reason` says how."""


class DeadlineExceeded(IngotError):
    """No answer came within the client's timeout; the server may have done the work."""


class ChecksumMismatch(IngotError):
    """The downloaded bytes are not those that were stored."""


CLASSES: Final[Mapping[str, type[IngotError]]] = {
    "INVALID_REQUEST": InvalidRequest,
    "UNSUPPORTED_URL": UnsupportedUrl,
    "ADDRESS_FORBIDDEN": AddressForbidden,
    "JOB_NOT_FOUND": JobNotFound,
    "MEDIA_NOT_FOUND": MediaNotFound,
    "ETAG_MISMATCH": Conflict,
    "REQUEST_ID_REUSED": Conflict,
    "TOO_MANY_WATCHES": ServiceUnavailable,
    "CANCELLED": JobCancelled,
    "MEDIA_DOES_NOT_EXIST": MediaDoesNotExist,
    "PRIVATE": SourceRefused,
    "GEO_BLOCKED": SourceRefused,
    "BOT_CHECK": SourceRefused,
    "RATE_LIMITED": SourceUnavailable,
    "HOST_NOT_FOUND": SourceUnavailable,
    "SOURCE_UNREACHABLE": SourceUnavailable,
    "SOURCE_FAILED": SourceUnavailable,
    "TOO_MANY_REDIRECTS": SourceUnavailable,
    "STALLED": SourceUnavailable,
    "TRUNCATED": SourceUnavailable,
    "TOO_LARGE": MediaRefused,
    "TOO_LONG": MediaRefused,
    "NOT_MEDIA": MediaRefused,
    "SELECTION_UNAVAILABLE": MediaRefused,
    "MEMBERS_ONLY": SourceRefused,
    "AGE_RESTRICTED": SourceRefused,
    "LIVE_STREAM": MediaRefused,
    "UPCOMING": MediaRefused,
    "FILE_TOO_LARGE": MediaRefused,
    "EXTRACTION_FAILED": SourceUnavailable,
    "EXTRACTOR_CRASHED": SourceUnavailable,
    "SOURCE_NOT_CONFIGURED": SourceRefused,
    "TOO_MANY_ENTRIES": MediaRefused,
    "ENTRIES_FAILED": MediaRefused,
    "BUCKET_FORBIDDEN": AddressForbidden,
    "UPLOAD_NOT_FOUND": Conflict,
    "UPLOAD_OFFSET_MISMATCH": Conflict,
    "CHECKSUM_MISMATCH": ChecksumMismatch,
    "CONVERSION_FAILED": MediaRefused,
    "STORAGE_UNAVAILABLE": ServiceUnavailable,
    "CACHE_UNAVAILABLE": ServiceUnavailable,
    "QUEUE_UNAVAILABLE": ServiceUnavailable,
    "SCRATCH_FULL": ServiceUnavailable,
    "WORKER_LOST": ServiceFailed,
    "STAGE_TIMEOUT": ServiceFailed,
    "SHUTTING_DOWN": ServiceUnavailable,
    "INTERNAL": ServiceFailed,
    "CONVERTER_CRASHED": ServiceFailed,
}

# For answers without a reason: from gRPC itself, or from something between here and the server.
_CLASSES_BY_CODE: Final[Mapping[grpc.StatusCode, type[IngotError]]] = {
    grpc.StatusCode.UNAVAILABLE: ServiceUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.INTERNAL: ServiceFailed,
    grpc.StatusCode.UNKNOWN: ServiceFailed,
    grpc.StatusCode.DATA_LOSS: ServiceFailed,
}


def from_status(status: Status) -> IngotError:
    """The exception for `status`, as a call or `Job.error` carries it."""
    error = IngotError(status.message, status=status)
    kind = CLASSES.get(error.reason) or _CLASSES_BY_CODE.get(error.code, IngotError)
    return kind(status.message, status=status)


def from_call(call: grpc.aio.AioRpcError) -> IngotError:
    """The exception for a gRPC call that failed."""
    packed = (call.trailing_metadata() or grpc.aio.Metadata()).get(_STATUS_KEY)
    if isinstance(packed, bytes):
        try:
            return from_status(Status.FromString(packed))
        except DecodeError:
            pass  # not ours to read: what gRPC says must do
    message = call.details() or call.code().name
    return from_status(Status(code=call.code().value[0], message=message))
