"""The exceptions of calls and jobs: one class per group of reasons that callers treat alike.

    Exception
    └── IngotError               reason, message, metadata, code, violations, retry_delay, status
        ├── InvalidRequest       the request breaks a rule; `violations` names the fields
        │   └── UnsupportedUrl   no source supports this URL
        ├── AddressForbidden     the URL leads to an address that Ingot never connects to
        ├── AccessDenied         the server wants a token, or does not accept this one
        ├── Conflict             another version is stored, or the request id was used before
        ├── JobNotFound          there is no record of this job
        ├── SubscriptionNotFound there is no such subscription
        ├── FeedNotFound         there is no such podcast feed
        ├── MediaNotFound        the media is not stored, or no longer whole
        │   └── MediaDoesNotExist    and does not exist at its source
        ├── JobCancelled         the job was cancelled
        ├── SourceRefused        the source refuses access: private, region, bot check
        ├── SourceUnavailable    the source is down, slow, broken or busy
        ├── MediaRefused         not media, too large, too long, or cannot be converted like this
        ├── ServiceUnavailable   Ingot cannot be reached, or cannot do this now
        ├── ServiceFailed        Ingot itself failed
        ├── DeadlineExceeded     no response within the client's timeout
        └── ChecksumMismatch     the downloaded file differs from the stored one

`reason` is the name of a value of `ingot.v1.Reason` without its prefix, or empty if the error does
not come from Ingot. Exceptions of gRPC are translated in this module only.
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

from ingot.unreachable import explain

DOMAIN: Final = "ingot.v1"
# The trailer in which gRPC sends google.rpc.Status: https://grpc.io/docs/guides/error/#richer-error-model
_STATUS_KEY: Final = "grpc-status-details-bin"

_CODES: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class IngotError(Exception):
    """The error of a call or a job.

    `message` says what happened. `code` is the gRPC code. `metadata` holds the keys that the reason
    documents. `violations` maps fields of the request to what is wrong with them. `retry_delay` is
    how long to wait before another attempt, or None if another attempt does not help. `status` is
    the message of the server with all of this.
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
            self._unpack_detail(detail)

    def _unpack_detail(self, detail: Any) -> None:
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
    """No source supports this URL."""


class AddressForbidden(IngotError):
    """The URL leads to a private or otherwise special address."""


class AccessDenied(IngotError):
    """The server, or a proxy before it, requires a token, or does not accept this one."""


class Conflict(IngotError):
    """Another version is stored, or the request id was used before for another request."""


class JobNotFound(IngotError):
    """There is no record of this job; records expire some time after the end of the job."""


class SubscriptionNotFound(IngotError):
    """There is no subscription with this id. List those that there are."""


class FeedNotFound(IngotError):
    """There is no podcast feed with this id. List those that there are."""


class MediaNotFound(IngotError):
    """The media is not stored, or what is stored is damaged."""


class MediaDoesNotExist(MediaNotFound):
    """The source says that the media does not exist."""


class JobCancelled(IngotError):
    """The job was cancelled, by this caller or another one."""


class SourceRefused(IngotError):
    """The source refuses access to the media."""


class SourceUnavailable(IngotError):
    """The source could not be reached, or did not send the complete media."""


class MediaRefused(IngotError):
    """The media cannot be stored, or cannot be converted as requested."""


class ServiceUnavailable(IngotError):
    """Ingot cannot be reached, or cannot do this now."""


class ServiceFailed(IngotError):
    """Ingot failed; `reason` says how."""


class DeadlineExceeded(IngotError):
    """The client received no response in time; the server may have done the work anyway."""


class ChecksumMismatch(IngotError):
    """The downloaded bytes differ from the stored file."""


CLASSES: Final[Mapping[str, type[IngotError]]] = {
    "INVALID_REQUEST": InvalidRequest,
    "UNSUPPORTED_URL": UnsupportedUrl,
    "ADDRESS_FORBIDDEN": AddressForbidden,
    "JOB_NOT_FOUND": JobNotFound,
    "MEDIA_NOT_FOUND": MediaNotFound,
    "ETAG_MISMATCH": Conflict,
    "REQUEST_ID_REUSED": Conflict,
    "TOO_MANY_WATCHES": ServiceUnavailable,
    "TOO_MANY_CALLS": ServiceUnavailable,
    "QUOTA_EXCEEDED": ServiceUnavailable,
    "MEDIA_DAMAGED": MediaNotFound,
    "WRITTEN_BY_NEWER_VERSION": ServiceUnavailable,
    "CANCELLED": JobCancelled,
    "RESUME_TOKEN_EXPIRED": Conflict,
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
    "SIGNING_KEYS_UNAVAILABLE": ServiceUnavailable,
    "INTERNAL": ServiceFailed,
    "CONVERTER_CRASHED": ServiceFailed,
    "UNSUPPORTED_CALL": ServiceFailed,
    "REQUEST_TOO_LARGE": InvalidRequest,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "TRANSCRIPTION_NOT_CONFIGURED": MediaRefused,
    "TRANSCRIPTION_FAILED": ServiceUnavailable,
    "ORIGIN_FORBIDDEN": AccessDenied,
    "WEBHOOKS_NOT_CONFIGURED": InvalidRequest,
    "WEBHOOK_DELIVERY_NOT_FOUND": Conflict,
    "FEED_NOT_FOUND": FeedNotFound,
    "SUBSCRIPTION_NOT_FOUND": SubscriptionNotFound,
    "TOO_MANY_WEBHOOKS": ServiceUnavailable,
    "UNAUTHENTICATED": AccessDenied,
    "TOKEN_INVALID": AccessDenied,
    "TOKEN_EXPIRED": AccessDenied,
    "SCOPE_MISSING": AccessDenied,
    "NOT_OWNER": AccessDenied,
    "TOO_MANY_UPLOAD_LINKS": ServiceUnavailable,
}

# For reasons of a newer server, which CLASSES does not have.
_CLASSES_OF_NEW_REASONS: Final[Mapping[grpc.StatusCode, type[IngotError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.NOT_FOUND: MediaNotFound,
    grpc.StatusCode.CANCELLED: JobCancelled,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: SourceRefused,
    grpc.StatusCode.FAILED_PRECONDITION: MediaRefused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServiceUnavailable,
    grpc.StatusCode.UNAVAILABLE: ServiceUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: ServiceFailed,
    grpc.StatusCode.DATA_LOSS: ServiceFailed,
    grpc.StatusCode.UNIMPLEMENTED: ServiceFailed,
    grpc.StatusCode.INTERNAL: ServiceFailed,
}

# For errors without a reason, which come from gRPC itself or from a proxy before the server.
_CLASSES_BY_CODE: Final[Mapping[grpc.StatusCode, type[IngotError]]] = {
    grpc.StatusCode.UNAVAILABLE: ServiceUnavailable,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.INTERNAL: ServiceFailed,
    grpc.StatusCode.UNKNOWN: ServiceFailed,
    grpc.StatusCode.DATA_LOSS: ServiceFailed,
}


def from_status(status: Status) -> IngotError:
    """Return the exception for the status of a call, or for `Job.error`."""
    error = IngotError(status.message, status=status)
    by_code = _CLASSES_OF_NEW_REASONS if error.reason else _CLASSES_BY_CODE
    kind = CLASSES.get(error.reason) or by_code.get(error.code, IngotError)
    return kind(status.message, status=status)


def from_call(call: grpc.aio.AioRpcError) -> IngotError:
    """Return the exception for a gRPC call that failed."""
    packed = (call.trailing_metadata() or grpc.aio.Metadata()).get(_STATUS_KEY)
    if isinstance(packed, bytes):
        try:
            return from_status(Status.FromString(packed))
        except DecodeError:
            pass  # not from Ingot: the code and the details of gRPC remain
    message = call.details() or call.code().name
    error = from_status(Status(code=call.code().value[0], message=message))
    if isinstance(error, ServiceUnavailable) and (unreachable := explain(message)):
        sentence = f"Cannot connect to the server: {unreachable.cause}."
        error.message = " ".join(filter(None, [sentence, unreachable.advice]))
        error.args = (error.message,)
    return error
