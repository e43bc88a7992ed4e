"""A server that other machines can reach does not start unguarded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ingot_server.api.exposure import require_guarded, require_guarded_metrics
from ingot_server.config import Settings
from ingot_server.setting_values import SettingError

OPEN = "0.0.0.0:50051"
TOKENS: dict[str, Any] = {"tokens_file": "tokens.toml"}
CERTIFICATE: dict[str, Any] = {"tls_certificate_file": "tls.crt"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"grpc_address": "localhost:50051", "http_address": ""},
        {"grpc_address": "[::1]:50051", "http_address": "127.0.0.2:80"},
        {"grpc_address": "unix:/run/ingot", "http_address": ""},
        {"grpc_address": OPEN, **TOKENS, **CERTIFICATE},
        {"grpc_address": OPEN, "tls_client_ca_file": "ca.crt", **CERTIFICATE},
        {"grpc_address": OPEN, "jwks_url": "https://login.example.com/keys", **CERTIFICATE},
        {"grpc_address": OPEN, "insecure": "tls", **TOKENS},
        {"grpc_address": OPEN, "insecure": "authentication", **CERTIFICATE},
        {"grpc_address": OPEN, "insecure": "all"},
        {"grpc_address": OPEN, "insecure": "authentication, tls"},
        {"s3_address": "127.0.0.2:9000"},
        {"s3_address": "0.0.0.0:9000", **CERTIFICATE},
        {"s3_address": "0.0.0.0:9000", "insecure": "tls"},
    ],
)
def test_it_starts_when_it_is_guarded_or_that_is_waived(settings: dict[str, Any]) -> None:
    require_guarded(Settings(**settings))


@pytest.mark.parametrize(
    ("settings", "remedy", "flag"),
    [
        ({"grpc_address": OPEN}, "INGOT_TOKENS_FILE .* INGOT_TLS_CERTIFICATE_FILE", "--insecure "),
        ({"http_address": "[::]:8080"}, "INGOT_HTTP_ADDRESS", "--insecure "),
        ({"http_address": ":8080"}, "INGOT_HTTP_ADDRESS", "--insecure "),
        ({"http_address": "media.example.com:80"}, "INGOT_HTTP_ADDRESS", "--insecure "),
        ({"grpc_address": OPEN, **TOKENS}, "INGOT_TLS_CERTIFICATE_FILE", "--insecure=tls "),
        ({"grpc_address": OPEN, **CERTIFICATE}, "INGOT_TOKENS_FILE", "--insecure=authentication "),
        ({"grpc_address": OPEN, "insecure": "authentication"}, "INGOT_TLS", "--insecure=tls "),
        ({"s3_address": "0.0.0.0:9000"}, "INGOT_S3_ADDRESS", "--insecure=tls "),
    ],
)
def test_it_does_not_start_otherwise_and_says_what_to_do(
    settings: dict[str, Any], remedy: str, flag: str
) -> None:
    with pytest.raises(SettingError, match=remedy) as raised:
        require_guarded(Settings(**settings))
    assert f"start it with {flag}(INGOT_INSECURE)" in str(raised.value)


METRICS: dict[str, Any] = {"metrics_address": "0.0.0.0:9464"}


@pytest.mark.parametrize("require", [require_guarded, require_guarded_metrics])
def test_a_metrics_address_is_guarded_unless_it_is_open(
    require: Callable[[Settings], None],
) -> None:
    require(Settings(metrics_address="127.0.0.1:9464"))
    require(Settings(**METRICS, open_services="health,metrics"))
    require(Settings(**METRICS, **TOKENS, **CERTIFICATE))
    require(Settings(**METRICS, insecure="all"))
    with pytest.raises(SettingError, match=r"INGOT_METRICS_ADDRESS=0\.0\.0\.0:9464"):
        require(Settings(**METRICS))


def test_the_address_of_metrics_alone_counts_for_a_worker() -> None:
    require_guarded_metrics(Settings(grpc_address=OPEN, **METRICS, open_services="metrics"))


def test_what_can_be_waived_is_checked() -> None:
    assert Settings.from_environment({"INGOT_INSECURE": "tls"}).insecure == "tls"
    with pytest.raises(SettingError, match="encryption"):
        Settings.from_environment({"INGOT_INSECURE": "encryption"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--grpc-address", "0.0.0.0:0"), "start it with --insecure (INGOT_INSECURE)"),
        (("--http-address", "0.0.0.0:0", "--insecure=tls"), "start it with --insecure=auth"),
        (("--insecure=encryption",), "INGOT_INSECURE has 'encryption'"),
    ],
)
def test_the_command_ends_at_once(arguments: tuple[str, ...], message: str) -> None:
    command = [sys.executable, "-m", "ingot_server.cli", "serve", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert message in ended.stderr
