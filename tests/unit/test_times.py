from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ingot.v1.ingest_service_pb2 import BatchIngestRequest, IngestRequest
from ingot.v1.media_service_pb2 import ListMediaRequest
from ingot_server.api.status import check
from ingot_server.api.times import invalid_times
from ingot_server.errors import Failure


@pytest.mark.parametrize(
    ("seconds", "nanos", "valid"),
    [
        (0, 0, True),
        (253402300799, 999999999, True),
        (253402300800, 0, False),
        (-62135596801, 0, False),
        (0, 1_000_000_000, False),
        (0, -1, False),
    ],
)
def test_a_time_is_within_the_years_1_to_9999(seconds: int, nanos: int, valid: bool) -> None:
    request = ListMediaRequest(created_after=Timestamp(seconds=seconds, nanos=nanos))
    found = [path for path, _ in invalid_times(request)]
    assert found == ([] if valid else ["created_after"])


@pytest.mark.parametrize(
    ("seconds", "nanos", "valid"),
    [
        (315576000000, 0, True),
        (315576000001, 0, False),
        (1, -1, False),
        (-1, 1, False),
        (0, 1_000_000_000, False),
    ],
)
def test_a_duration_is_within_its_range(seconds: int, nanos: int, valid: bool) -> None:
    request = IngestRequest()
    request.options.record_duration.CopyFrom(Duration(seconds=seconds, nanos=nanos))
    batch = BatchIngestRequest(requests=[IngestRequest(), request])
    found = [path for path, _ in invalid_times(batch)]
    assert found == ([] if valid else ["requests[1].options.record_duration"])


def test_a_request_with_one_is_refused_and_says_where() -> None:
    with pytest.raises(Failure) as refused:
        check(ListMediaRequest(created_after=Timestamp(nanos=-1)))
    assert list(refused.value.violations) == ["created_after"]
