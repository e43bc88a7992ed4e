"""What callers of the API learn from its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from ingot_server.errors import Failure, reason_name


@dataclass
class Refusal:
    """What a caller learns from an error."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: set[str]


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = Status.FromString(details)
    assert error.code().value[0] == status.code
    assert error.details() == status.message
    bad = BadRequest()
    fields = [v.field for d in status.details if d.Unpack(bad) for v in bad.field_violations]
    reason = reason_name(Failure.from_status(status).reason)
    return Refusal(error.code(), reason, status.message, set(fields))


async def rest(stream: Any) -> list[Any]:
    """What is left of a stream that `read` may have begun."""
    responses = []
    while (response := await stream.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (rest(call) if hasattr(call, "read") else call)
    return refusal(caught.value)
