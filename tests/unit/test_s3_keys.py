"""When temporary keys are renewed, and what is said when they cannot be."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from minio.credentials.credentials import Credentials
from urllib3.exceptions import MaxRetryError, NewConnectionError

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.s3_keys import RenewedKeys, s3_keys
from ingot_server.setting_values import Secret, SettingError

START = datetime(2026, 11, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Service:
    """Gives numbered keys for an hour from the time of the test on, and announces each."""

    def __init__(self) -> None:
        self.now = START
        self.given = 0
        self.error: Exception | None = None
        self.asked = threading.Semaphore(0)

    def fetch(self) -> Credentials:
        try:
            if self.error is not None:
                raise self.error
            self.given += 1
            return Credentials(f"key{self.given}", "secret", "token", self.now + HOUR)
        finally:
            self.asked.release()

    def keys(self) -> RenewedKeys:
        return RenewedKeys(self.fetch, "https://sts.example", lambda: self.now)

    def wait(self) -> None:
        """Wait until a renewal, in its thread, has ended."""
        assert self.asked.acquire(timeout=60)
        for thread in threading.enumerate():
            if thread.name == "s3-keys":
                thread.join()


def test_keys_are_renewed_after_half_of_their_life_and_no_request_waits() -> None:
    service = Service()
    keys = service.keys()
    assert keys.retrieve().access_key == "key1"
    service.asked.acquire()
    service.now = START + HOUR / 2 - timedelta(minutes=1)
    assert keys.retrieve().access_key == "key1"
    assert service.given == 1

    service.now = START + HOUR / 2
    assert keys.retrieve().access_key == "key1"
    service.wait()
    assert keys.retrieve().access_key == "key2"
    assert service.given == 2


def test_keys_that_expire_are_replaced_before_they_are_used() -> None:
    service = Service()
    keys = service.keys()
    keys.retrieve()
    service.now = START + HOUR - timedelta(seconds=5)
    assert keys.retrieve().access_key == "key2"


def test_a_service_that_is_away_does_no_harm_until_keys_expire(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service()
    keys = service.keys()
    keys.retrieve()
    service.asked.acquire()
    service.error = ValueError(
        "https://sts.example?WebIdentityToken=hunter2 failed with HTTP status code 503"
    )
    service.now = START + HOUR / 2
    for _ in range(3):
        assert keys.retrieve().access_key == "key1"
    service.wait()
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "https://sts.example (HTTP status 503)" in caplog.text
    assert "hunter2" not in caplog.text

    service.now = START + HOUR
    with pytest.raises(Failure, match="No keys for S3 come from") as failed:
        keys.retrieve()
    assert failed.value.__cause__ is failed.value.__context__ is None
    service.error = None
    assert keys.retrieve().access_key == "key2"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("Expiration"), "is not one of this service"),
        (ValueError("Access key must not be empty"), "its response is not valid"),
        (FileNotFoundError(2, "No such file", "/run/token"), "/run/token: No such file"),
        (
            MaxRetryError(None, "/?WebIdentityToken=hunter2", NewConnectionError(None, "refused")),  # type: ignore[arg-type]
            "NewConnectionError",
        ),
    ],
)
def test_why_there_are_no_keys_is_said_without_the_token(error: Exception, words: str) -> None:
    service = Service()
    service.error = error
    with pytest.raises(Failure, match=words) as failed:
        service.keys().retrieve()
    assert "hunter2" not in str(failed.value)


def test_settings_that_give_no_keys_are_named() -> None:
    assert s3_keys(Settings(), None) is None
    with pytest.raises(SettingError, match="INGOT_S3_SECRET_KEY is not"):
        s3_keys(Settings(s3_access_key="a"), None)
    with pytest.raises(SettingError, match="needs INGOT_S3_WEB_IDENTITY_TOKEN_FILE"):
        s3_keys(Settings(s3_credentials="web-identity"), None)
    with pytest.raises(SettingError, match="`keys`, `role` or `web-identity`"):
        Settings.from_environment({"INGOT_S3_CREDENTIALS": "iam"})
    given = s3_keys(Settings(s3_access_key="a", s3_secret_key=Secret("b")), None)
    assert given is not None
    assert given.retrieve().secret_key == "b"
