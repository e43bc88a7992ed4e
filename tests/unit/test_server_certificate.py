"""Which settings of TLS are refused, and what `doctor` says of a certificate's lifetime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ingot_server.api.server_certificate import server_certificate
from ingot_server.config import Settings
from ingot_server.doctor.certificate import check_certificate, check_lifetime
from ingot_server.findings import Level
from ingot_server.setting_values import SettingError
from tests.certificates import Authority


def test_no_certificate_means_no_tls() -> None:
    assert server_certificate(Settings()) is None


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, other = authority.issue("server"), authority.issue("server")
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for certificate, key, clients, message in (
        (pair.certificate, "", "", "belong together"),
        ("", pair.key, "", "belong together"),
        ("", "", authority.file, "INGOT_TLS_CLIENT_CA_FILE is for TLS"),
        (pair.certificate, other.key, "", "KEY_VALUES_MISMATCH"),
        (pair.certificate, junk, "", "Name PEM files"),
        (pair.certificate, pair.key, junk, "INGOT_TLS_CLIENT_CA_FILE="),
        (tmp_path / "none.pem", pair.key, "", "none.pem No such file"),
    ):
        settings = Settings(
            tls_certificate_file=str(certificate),
            tls_key_file=str(key),
            tls_client_ca_file=str(clients),
        )
        with pytest.raises(SettingError, match=message):
            server_certificate(settings)


@pytest.mark.parametrize(
    ("age", "level", "words"),
    [
        (timedelta(0), Level.OK, "is valid until"),
        (timedelta(days=20), Level.WARNING, "expires on"),
        (timedelta(days=40), Level.PROBLEM, "expired on"),
        (timedelta(days=-1), Level.PROBLEM, "is valid from"),
    ],
)
def test_the_end_of_a_certificate_is_announced(
    age: timedelta, level: Level, words: str, tmp_path: Path
) -> None:
    pair = Authority(tmp_path).issue("server", lifetime=timedelta(days=30))
    chain = x509.load_pem_x509_certificates(pair.certificate.read_bytes())

    finding = check_lifetime(chain, datetime.now(UTC) + age)

    assert finding.level is level
    assert words in finding.message


async def test_doctor_looks_at_the_certificate_of_the_settings(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("server")
    settings = Settings(tls_certificate_file=str(pair.certificate), tls_key_file=str(pair.key))
    (finding,) = await check_certificate(settings)
    assert finding.level is Level.WARNING
    assert not await check_certificate(Settings())
