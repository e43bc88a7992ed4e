from datetime import timedelta

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.errors import TREATMENTS, Failure, SourceOutcome, reason_name

REASONS = [value for value in Reason.values() if value != reason_pb2.REASON_UNSPECIFIED]


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_every_reason_has_a_treatment_and_survives_its_status(reason: Reason.ValueType) -> None:
    failure = Failure(reason, "What happened; what to do.", metadata={"host": "example.com"})

    back = Failure.from_status(failure.status())

    assert (back.reason, back.message, back.metadata) == (
        reason,
        "What happened; what to do.",
        {"host": "example.com"},
    )
    assert TREATMENTS[reason].code != 0


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_a_status_has_exactly_one_error_info_and_a_delay_when_transient(
    reason: Reason.ValueType,
) -> None:
    details = Failure(reason, "message").status().details

    infos = [detail for detail in details if detail.Is(ErrorInfo.DESCRIPTOR)]
    delays = [detail for detail in details if detail.Is(RetryInfo.DESCRIPTOR)]
    assert len(infos) == 1
    assert len(delays) == TREATMENTS[reason].transient


def test_every_treatment_is_for_a_reason_of_the_contract() -> None:
    assert set(TREATMENTS) == set(REASONS)


def test_only_failures_of_a_source_that_serves_us_are_cached() -> None:
    assert {treatment.outcome for treatment in TREATMENTS.values() if treatment.cached_for} == {
        SourceOutcome.AVAILABLE
    }


def test_violations_name_their_fields() -> None:
    failure = Failure(
        reason_pb2.REASON_INVALID_REQUEST, "The URL is empty.", violations={"url": "is empty"}
    )

    [detail] = [d for d in failure.status().details if d.Is(BadRequest.DESCRIPTOR)]
    bad_request = BadRequest()
    detail.Unpack(bad_request)
    assert [(v.field, v.description) for v in bad_request.field_violations] == [("url", "is empty")]


@pytest.mark.parametrize("reason", REASONS, ids=reason_name)
def test_a_status_preserves_a_failure(reason: Reason.ValueType) -> None:
    status = Failure(
        reason,
        "What happened.",
        metadata={"a": "b"},
        violations={"url": "is empty"},
        retry_after=timedelta(seconds=90),
    ).status()

    assert Failure.from_status(status).status() == status


def test_a_reason_is_cached_only_when_trying_again_cannot_help() -> None:
    assert not [
        reason_name(reason)
        for reason, treatment in TREATMENTS.items()
        if treatment.transient and treatment.cached_for
    ]


def test_a_message_of_a_source_that_is_not_utf_8_is_still_reported() -> None:
    failure = Failure(
        reason_pb2.REASON_NOT_MEDIA,
        "It sends text/\udce9.",
        metadata={"content_type": "text/\udce9"},
    )

    back = Failure.from_status(failure.status())

    assert (back.message, back.metadata) == ("It sends text/?.", {"content_type": "text/?"})


def test_a_final_failure_is_otherwise_the_same() -> None:
    failure = Failure(
        reason_pb2.REASON_STALLED,
        "No byte arrived for a minute.",
        metadata={"host": "example.com"},
        retry_after=timedelta(seconds=9),
    )

    final = failure.as_final()

    assert (final.final, failure.final) == (True, False)
    assert final.status() == failure.status()
