from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import PREFIX, RENAMED, Settings
from ingot_server.setting_values import ByteSize, Secret, SettingError


def test_a_setting_without_a_variable_keeps_its_default() -> None:
    assert Settings.from_environment({"PATH": "/bin", "INGOT_SERVER": "host:1"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("workers", "0", 0),
        ("workers", "12", 12),
        ("data_dir", "/srv/ingot", Path("/srv/ingot")),
        ("s3_secure", "on", True),
        ("s3_secure", "TRUE", True),
        ("s3_secure", "0", False),
        ("egress_allow_loopback", "off", False),
        ("lease", "8", timedelta(seconds=8)),
        ("lease", "250ms", timedelta(milliseconds=250)),
        ("lease", "1.5s", timedelta(seconds=1.5)),
        ("job_ttl", "90m", timedelta(minutes=90)),
        ("job_ttl", "30 d", timedelta(days=30)),
        ("max_media_size", "1024", ByteSize(1024)),
        ("max_media_size", "512MiB", ByteSize(512 << 20)),
        ("max_media_size", "1.5GiB", ByteSize(3 << 29)),
        ("s3_secret_key", "s p a c e", Secret("s p a c e")),
        ("user_agent", "Bot/1 (+https://a.example)", "Bot/1 (+https://a.example)"),
    ],
)
def test_each_kind_of_value_is_read(name: str, text: str, value: object) -> None:
    settings = Settings.from_environment({f"INGOT_{name.upper()}": text})
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(getattr(Settings(), name))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("INGOT_WORKERS", "two"),
        ("INGOT_WORKERS", "-1"),
        ("INGOT_WORKERS", ""),
        ("INGOT_S3_SECURE", "maybe"),
        ("INGOT_LEASE", "soon"),
        ("INGOT_LEASE", "5 fortnights"),
        ("INGOT_LEASE", "-5s"),
        ("INGOT_MAX_MEDIA_SIZE", "20GB of it"),
        ("INGOT_MAX_MEDIA_SIZE", "20 Gib"),
    ],
)
def test_a_bad_value_is_reported_with_what_it_should_be(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=f"{name}=.* is not a|{name}=.* is not `on`") as raised:
        Settings.from_environment({name: text})
    assert repr(text) in str(raised.value)


def test_an_unknown_variable_is_reported_and_harmless() -> None:
    environment = {
        "INGOT_REDIS_ULR": "redis://elsewhere",
        "INGOT_PORT": "tcp://10.0.0.1:50051",
        "INGOT_SERVER": "localhost:50051",
        "INGOT_WORKERS": "1",
    }
    assert Settings.from_environment(environment) == Settings(workers=1)
    assert Settings.unknown(environment) == ["INGOT_PORT", "INGOT_REDIS_ULR"]


def test_a_child_process_reads_the_settings_of_its_parent() -> None:
    changed = Settings(
        data_dir=Path("/a path/with spaces"),
        s3_secret_key=Secret("k=%\n'\""),
        s3_secure=True,
        max_media_size=ByteSize((1 << 50) + 1),
        lease=timedelta(microseconds=1),
        job_ttl=timedelta(days=400, milliseconds=1),
    )
    for settings in (Settings(), changed):
        assert Settings.from_environment(settings.environment()) == settings


def test_every_setting_is_documented_and_passed_to_a_child() -> None:
    names = {f"INGOT_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    assert set(Settings().environment()) == names
    assert all(field.metadata["doc"] for field in dataclasses.fields(Settings))


def test_a_secret_does_not_show() -> None:
    settings = Settings(s3_secret_key=Secret("hunter2"))
    assert "hunter2" not in f"{settings!r} {settings}"
    assert settings.environment()["INGOT_S3_SECRET_KEY"] == "hunter2"


def test_settings_do_not_change() -> None:
    settings = Settings()
    assert settings.replace(workers=5).workers == 5
    assert settings.workers == Settings().workers
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.workers = 3  # type: ignore[misc]


@pytest.mark.parametrize("text", ["", " ", "a\r\nHost: b", "caf\xe9", "a  b"])
def test_a_user_agent_that_cannot_be_sent_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match=r"INGOT_USER_AGENT=.*Example/1\.0"):
        Settings.from_environment({"INGOT_USER_AGENT": text})


SECRETS = (
    *("INGOT_REDIS_URL", "INGOT_BROKER_URL", "INGOT_S3_SECRET_KEY", "INGOT_TELEGRAM_BOT_TOKEN"),
    *("INGOT_TELEGRAM_API_HASH", "INGOT_TELEGRAM_SESSION", "INGOT_TRANSCRIPTION_API_KEY"),
)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_the_file_that_is_named(name: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"redis://:pw@h/1" + end.encode())
    environment = {f"{name}_FILE": str(file)}

    settings = Settings.from_environment(environment)

    assert settings.environment()[name] == "redis://:pw@h/1"
    assert Settings.given(environment) == {name.removeprefix("INGOT_").lower()}
    assert not Settings.unknown(environment)


def test_every_secret_can_be_in_a_file_and_the_documentation_names_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    paragraph = next(each for each in text.split("\n\n") if each.startswith("**Secrets in files"))
    declared = Settings.secret_variables()
    assert declared == set(re.findall(r"`(INGOT_\w+)`", paragraph))
    assert declared >= set(SECRETS)


def test_a_file_of_a_secret_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "url").write_text("sentinel://:hunter2@h")
    for environment, message in (
        ({"INGOT_S3_SECRET_KEY_FILE": str(tmp_path / "none")}, "none cannot be read: No such file"),
        ({"INGOT_S3_SECRET_KEY_FILE": str(tmp_path / "binary")}, "not a text in UTF-8"),
        ({"INGOT_S3_SECRET_KEY_FILE": "x", "INGOT_S3_SECRET_KEY": "y"}, "both set"),
        ({"INGOT_REDIS_URL_FILE": str(tmp_path / "url")}, "INGOT_REDIS_URL: .*Sentinel"),
    ):
        with pytest.raises(SettingError, match=message) as raised:
            Settings.from_environment(environment)
        assert "hunter2" not in str(raised.value)
    assert Settings.unknown({"INGOT_WORKERS_FILE": "x"}) == ["INGOT_WORKERS_FILE"]


def test_a_former_name_is_reported_with_the_present_one() -> None:
    environment = {"INGOT_SOURCE_PATIENCE": "2h", "INGOT_WORKERS": "2"}

    assert Settings.renamed(environment) == {"INGOT_SOURCE_PATIENCE": "INGOT_SOURCE_WAIT_TIMEOUT"}
    assert not Settings.unknown(environment)


def test_every_present_name_is_a_setting_and_no_former_one_is() -> None:
    former = dict.fromkeys(RENAMED, "")
    names = {PREFIX + item.name.upper() for item in dataclasses.fields(Settings)}

    assert set(Settings.renamed(former).values()) <= names
    assert not names & former.keys()


def test_no_process_starts_with_a_former_name() -> None:
    started = subprocess.run(
        [sys.executable, "-m", "ingot_server.cli", "worker"],
        env={**os.environ, "INGOT_EXISTENCE_TTL": "1h"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert started.returncode == 2
    assert started.stderr.endswith(
        "ingot-server: INGOT_EXISTENCE_TTL is now called INGOT_PREFLIGHT_TTL. Rename it.\n"
    )
