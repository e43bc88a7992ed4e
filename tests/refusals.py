"""What callers learn from the errors of the API and of jobs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from ingot.v1.job_pb2 import Job
from ingot.v1.reason_pb2 import Reason
from ingot_server.errors import Failure, reason_name
from tests.waiting import TIMEOUT_SECONDS


@dataclass
class Refusal:
    """What a caller learns from an error."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: set[str]


def reason_of(job: Job) -> Reason.ValueType:
    """Return the reason in a job's error."""
    return Failure.from_status(job.error).reason


def reason_name_of(job: Job) -> str:
    """Return the name of the reason in a job's error."""
    return reason_name(reason_of(job))


def failed_attempt_of(job: Job) -> str:
    """Return the name of the reason in the error of a job's last attempt."""
    return reason_name(Failure.from_status(job.last_attempt_error).reason)


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


def is_hidden(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC's core could not send a message, which hides what the server has answered."""
    return "from Core" in (error.details() or "")


async def rest(stream: Any) -> list[Any]:
    """Return the responses that remain in a stream; `read` may have taken the first ones."""
    responses = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (response := await stream.read()) is not grpc.aio.EOF:
            responses.append(response)
    return responses


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (rest(call) if hasattr(call, "read") else call)
    return refusal(caught.value)
