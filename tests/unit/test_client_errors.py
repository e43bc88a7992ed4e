"""Every reason of the server becomes an exception of its own class, with all of its details."""

from datetime import timedelta

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from ingot import errors
from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.errors import TREATMENTS, Failure, reason_name

REASONS = [reason for reason in Reason.values() if reason != reason_pb2.REASON_UNSPECIFIED]


def call_error(
    code: grpc.StatusCode, details: str = "", trailers: tuple[tuple[str, bytes], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details)


def test_the_map_has_only_reasons_of_the_contract() -> None:
    assert set(errors.CLASSES) <= {reason_name(reason) for reason in REASONS}


@pytest.mark.parametrize("code", sorted({each.code for each in TREATMENTS.values()}))
def test_a_reason_that_the_map_lacks_has_a_class_by_its_code(code: int) -> None:
    status = Status(code=code, message="What happened.")
    status.details.add().Pack(ErrorInfo(domain=errors.DOMAIN, reason="NOT_YET_KNOWN"))

    assert type(errors.from_status(status)) in set(errors.CLASSES.values())


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_a_failure_of_the_server_arrives_whole(reason: Reason.ValueType) -> None:
    failure = Failure(
        reason,
        "What happened.",
        metadata={"host": "example.com"},
        violations={"url": "is not one"},
        retry_after=timedelta(seconds=3),
    )
    packed = failure.status().SerializeToString()

    error = errors.from_call(
        call_error(grpc.StatusCode.UNKNOWN, "", (("grpc-status-details-bin", packed),))
    )

    assert type(error) is errors.CLASSES.get(reason_name(reason), type(error))
    assert type(error) is not errors.IngotError
    assert error.reason == reason_name(reason)
    assert error.code.value[0] == TREATMENTS[reason].code
    assert (error.message, str(error)) == ("What happened.", "What happened.")
    assert error.metadata == {"host": "example.com"}
    assert error.violations == {"url": "is not one"}
    assert error.retry_delay == (timedelta(seconds=3) if failure.transient else None)
    assert error.status == failure.status()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServiceUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.INTERNAL, errors.ServiceFailed),
        (grpc.StatusCode.UNIMPLEMENTED, errors.IngotError),
    ],
)
def test_an_error_that_is_not_from_ingot_becomes_an_exception_by_its_code(
    code: grpc.StatusCode, kind: type[errors.IngotError]
) -> None:
    error = errors.from_call(call_error(code, "Connection refused"))

    assert type(error) is kind
    assert (error.reason, error.code, error.message) == ("", code, "Connection refused")


def test_details_that_cannot_be_parsed_leave_the_code_and_message_of_grpc() -> None:
    broken = (("grpc-status-details-bin", b"\xff\xff"),)

    error = errors.from_call(call_error(grpc.StatusCode.NOT_FOUND, "gone", broken))

    assert (error.code, error.message) == (grpc.StatusCode.NOT_FOUND, "gone")


def test_a_reason_of_a_newer_server_keeps_its_name() -> None:
    status = Failure(reason_pb2.REASON_STALLED, "Slow.").status()
    information = ErrorInfo(domain=errors.DOMAIN, reason="NOT_YET_KNOWN")
    status.details[0].Pack(information)

    error = errors.from_status(status)

    assert type(error) is errors.ServiceUnavailable
    assert error.reason == "NOT_YET_KNOWN"


def test_an_error_info_of_another_domain_is_ignored() -> None:
    status = Status(code=grpc.StatusCode.PERMISSION_DENIED.value[0], message="No.")
    status.details.add().Pack(ErrorInfo(domain="proxy.example", reason="PRIVATE"))

    assert errors.from_status(status).reason == ""


def test_media_does_not_exist_is_a_media_not_found() -> None:
    assert issubclass(errors.MediaDoesNotExist, errors.MediaNotFound)
    assert all(issubclass(kind, errors.IngotError) for kind in errors.CLASSES.values())
