"""What is cut out of messages, names and logs, and what stays."""

from __future__ import annotations

import logging
import sys

import pytest

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.event_log import TextFormatter
from ingot_server.jobs.display_name import name_of_url
from ingot_server.redaction import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@h/x is gone.", "https://***@h/x is gone."),
        ("at redis://:p@ss@h:6379/0", "at redis://***@h:6379/0"),
        ("https://h/a?v=1&X-Amz-Signature=ab%2Fcd&b=2", "https://h/a?v=1&X-Amz-Signature=***&b=2"),
        ("<https://h/a?token=abc> failed", "<https://h/a?token=***> failed"),
        ("https://h/a?access_token=abc#part", "https://h/a?access_token=***#part"),
        ("https://h/a?v=1;api_key=abc;c=2", "https://h/a?v=1;api_key=***;c=2"),
        ("/seg.ts?hdnea=st~exp~hmac: HTTP 403", "/seg.ts?hdnea=*** HTTP 403"),
        (
            "https://h/?u=http%3A%2F%2Fx%2F%3Fsig%3Dabc%26b=1",
            "https://h/?u=http%3A%2F%2Fx%2F%3Fsig%3D***%26b=1",
        ),
        ("Authorization: Bearer abcdefghi1", "Authorization: Bearer ***"),
        (
            "https://api.telegram.org/bot12:AA-b_c/getFile",
            "https://api.telegram.org/bot***/getFile",
        ),
        # what names the media, and what only looks like a secret
        ("https://h/watch?v=p9kdDet7G14&t=30s", "https://h/watch?v=p9kdDet7G14&t=30s"),
        ("https://h/@channel/videos?list=a@b", "https://h/@channel/videos?list=a@b"),
        ("page_token=abc is not valid", "page_token=abc is not valid"),
        ("Basic authentication is not used", "Basic authentication is not used"),
        ("Give the bearer token again.", "Give the bearer token again."),
        ("mail me@example.com", "mail me@example.com"),
        ("", ""),
    ],
)
def test_secrets_are_cut_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


def test_no_failure_shows_a_signature() -> None:
    failure = Failure(
        reason_pb2.REASON_SOURCE_FAILED,
        "A segment is missing: https://cdn.example/1.ts?Signature=hunter2",
        violations={"url": "https://u:hunter2@h/ has a password"},
    )
    everything = f"{failure} {failure!r} {failure.status()} {failure.violations}"
    assert "1.ts?Signature=***" in failure.message
    assert "hunter2" not in everything


def test_no_name_of_a_job_shows_a_token() -> None:
    assert (
        name_of_url("https://h.example/watch?v=1&token=hunter2") == "h.example/watch?v=1&token=***"
    )


def test_no_log_shows_what_an_exception_quotes() -> None:
    try:
        raise ValueError("cannot GET https://u:hunter2@h/x?sig=hunter2")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 1, "at %s", (), sys.exc_info())
        record.args = ("https://h/?key=hunter2",)
    line = TextFormatter("%(message)s").format(record)
    assert "cannot GET https://***@h/x?sig=***" in line
    assert "hunter2" not in line
