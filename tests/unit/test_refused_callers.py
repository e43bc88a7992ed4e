"""What a caller that is refused before its call receives over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.api.connect_errors import refuse_caller
from ingot_server.errors import Failure


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (reason_pb2.REASON_UNAUTHENTICATED, 401),
        (reason_pb2.REASON_TOKEN_INVALID, 401),
        (reason_pb2.REASON_TOKEN_EXPIRED, 401),
        (reason_pb2.REASON_SCOPE_MISSING, 403),
        (reason_pb2.REASON_QUOTA_EXCEEDED, 429),
        (reason_pb2.REASON_SIGNING_KEYS_UNAVAILABLE, 503),
        (reason_pb2.REASON_CACHE_UNAVAILABLE, 503),
    ],
)
async def test_only_who_is_not_known_is_asked_to_log_in(
    reason: Reason.ValueType, status: int
) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await refuse_caller(send, Failure(reason, "No."))
    assert sent[0]["status"] == status
