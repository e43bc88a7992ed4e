"""Calls that take long are logged, on every protocol; streams never are."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from ingot.v1 import media_service_pb2, reason_pb2
from ingot_server.api.call_metrics import MeasuredMethod
from ingot_server.errors import Failure
from ingot_server.event_log import JsonFormatter

SERVICE = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"]


def logged(
    caplog: pytest.LogCaptureFixture,
    *,
    seconds: float,
    slow_call: float,
    method: str = "GetMedia",
    error: BaseException | None = None,
) -> list[dict[str, Any]]:
    """The lines about a call that took so long."""
    measured = MeasuredMethod(SERVICE.methods_by_name[method], timedelta(seconds=slow_call))
    with caplog.at_level(logging.INFO):
        measured.ended(error, seconds)
    return [json.loads(JsonFormatter().format(record)) for record in caplog.records]


def test_a_slow_call_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    [line] = logged(caplog, seconds=2.5, slow_call=2)

    assert (line["event"], line["level"]) == ("call_slow", "warning")
    assert (line["method"], line["code"]) == ("MediaService/GetMedia", "OK")
    assert line["duration_seconds"] == 2.5
    assert line["message"] == "MediaService/GetMedia took 2.500 s: OK"
    assert "reason" not in line


def test_it_says_what_a_slow_call_failed_with(caplog: pytest.LogCaptureFixture) -> None:
    gone = Failure(reason_pb2.REASON_STORAGE_UNAVAILABLE, "")
    [line] = logged(caplog, seconds=3, slow_call=2, error=gone)

    assert (line["code"], line["reason"]) == ("UNAVAILABLE", "STORAGE_UNAVAILABLE")


@pytest.mark.parametrize(
    ("seconds", "slow_call", "method"),
    [
        pytest.param(1.9, 2, "GetMedia", id="a call that is not slow"),
        pytest.param(9e9, 0, "GetMedia", id="turned off"),
        pytest.param(9e9, 2, "Download", id="a stream"),
    ],
)
def test_others_are_no_line(
    caplog: pytest.LogCaptureFixture, seconds: float, slow_call: float, method: str
) -> None:
    assert logged(caplog, seconds=seconds, slow_call=slow_call, method=method) == []
