from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import Job
from ingot_server.api.status import check
from ingot_server.api.webhook_requests import check_webhook
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.jobs.webhook_event import event_of, webhook_body
from ingot_server.setting_values import Secret, SettingError
from ingot_server.webhooks.sender import LONGEST_DELAY, retry_delay
from ingot_server.webhooks.signature import secrets_of

NEW, OLD = ("whsec_" + base64.b64encode(fill * 32).decode() for fill in (b"n", b"o"))
OWN = "https://operator.example/hook"


def test_secrets_follow_from_the_url_without_its_query_and_the_operator_has_its_own() -> None:
    settings = Settings(webhook_url=OWN, webhook_secrets=Secret(f"{NEW}, {OLD}"))

    assert list(secrets_of(OWN, settings)) == [NEW, OLD]
    one = secrets_of("https://one.example/hook", settings)
    assert secrets_of("https://one.example/hook?job=1", settings) == one
    assert len({*one, *secrets_of("https://one.example/hooks", settings), NEW, OLD}) == 6
    assert secrets_of(OWN, Settings()) == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"INGOT_WEBHOOK_URL": OWN}, "INGOT_WEBHOOK_SECRETS"),
        ({"INGOT_WEBHOOK_URL": "https://a:b@c.example/"}, "user info"),
        ({"INGOT_WEBHOOK_URL": "ftp://c.example/"}, "not a URL"),
        ({"INGOT_WEBHOOK_SECRETS": "hunter2"}, "base64"),
        ({"INGOT_WEBHOOK_SECRETS": "whsec_aHVudGVyMg=="}, "24 to 64 bytes"),
        ({"INGOT_WEBHOOK_SECRETS": f"{NEW},{OLD},{NEW}"}, "3 secrets"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_without_showing_them(
    variables: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingError) as refused:
        Settings.from_environment(variables)
    assert words in str(refused.value)
    for secret in ("hunter2", "aHVudGVyMg", NEW, "a:b"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        (job_pb2.JOB_STATE_SUCCEEDED, None, "job.succeeded"),
        (job_pb2.JOB_STATE_FAILED, reason_pb2.REASON_STALLED, "job.failed"),
        (job_pb2.JOB_STATE_CANCELLED, reason_pb2.REASON_CANCELLED, "job.cancelled"),
    ],
)
def test_the_event_has_ids_and_nothing_long(
    state: job_pb2.JobState.ValueType, error: reason_pb2.Reason.ValueType | None, kind: str
) -> None:
    job = Job(id="a" * 26, state=state, url="http://example.com/" + "a" * 8000)
    job.media.id = "m" * 52
    job.labels.update({str(number): "x" * 255 for number in range(64)})
    if error is not None:
        job.error.CopyFrom(Failure(error, "x" * 4000).status())
    job.end_time.GetCurrentTime()

    body = webhook_body(job)

    assert len(body) < 1024
    event = event_of(body)
    assert (event.type, event.timestamp) == (kind, job.end_time)
    assert (event.data.job_id, event.data.media_id) == (job.id, job.media.id)
    assert event.data.reason == (error or reason_pb2.REASON_UNSPECIFIED)


def test_delays_are_doubled_up_to_hours_and_cover_days() -> None:
    second = timedelta(seconds=1)
    delays = [retry_delay(attempt, second) for attempt in range(1, 100)]
    assert 0.8 * second <= delays[0] <= 1.2 * second
    assert 0.8 * 4 * second <= delays[2] <= 1.2 * 4 * second
    assert max(delays) <= 1.2 * LONGEST_DELAY
    assert retry_delay(10**6, second) >= 0.8 * LONGEST_DELAY
    assert retry_delay(5, timedelta(0)) == timedelta(0)


@pytest.mark.parametrize(
    ("url", "allow", "reason"),
    [
        ("https://example.com/hook?a=b", "", ""),
        ("http://10.0.0.1/hook", "", "ADDRESS_FORBIDDEN"),
        ("http://10.0.0.1/hook", "10.0.0.0/8", ""),
        ("http://10.0.0.1/hook", "10.0.0.1:80", ""),
        ("http://10.0.0.1/hook", "10.0.0.1:81,10.1.0.0/16", "ADDRESS_FORBIDDEN"),
        ("http://[::ffff:10.0.0.1]/hook", "10.0.0.0/8", "ADDRESS_FORBIDDEN"),
        ("http://0x7f.1/hook", "", "ADDRESS_FORBIDDEN"),
        ("http://metadata.internal/hook", "", "ADDRESS_FORBIDDEN"),
        ("http://hooks.internal/hook", "10.0.0.0/8", ""),
        ("http://user:password@example.com/", "", "INVALID_REQUEST"),
        ("http://example.com:99999/", "", "INVALID_REQUEST"),
        ("http:///hook", "", "INVALID_REQUEST"),
        ("http://[/hook", "", "INVALID_REQUEST"),
    ],
)
def test_which_urls_get_a_webhook(url: str, allow: str, reason: str) -> None:
    settings = Settings(webhook_secrets=Secret(NEW), egress_allow=allow)
    request = IngestRequest(url="http://example.com/", webhook_url=url)
    if not reason:
        check_webhook(request, settings)
        return
    with pytest.raises(Failure) as refused:
        check_webhook(request, settings)
    assert reason_name(refused.value.reason) == reason


@pytest.mark.parametrize("url", ["ftp://example.com/", "http://a b/", "http://a/" + "b" * 2048])
def test_the_contract_refuses_what_is_no_url(url: str) -> None:
    with pytest.raises(Failure):
        check(IngestRequest(url="http://example.com/", webhook_url=url))
