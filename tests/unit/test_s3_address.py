"""What signed links name when the embedded S3 has an address for other machines."""

from __future__ import annotations

import pytest

from ingot_server.config import Settings
from ingot_server.local.s3_relay import public_endpoint
from ingot_server.setting_values import SettingError


@pytest.mark.parametrize(
    ("address", "public", "certificate", "expected"),
    [
        ("192.0.2.1:9000", "", "", "http://192.0.2.1:9000"),
        ("192.0.2.1:9000", "", "tls.crt", "https://192.0.2.1:9000"),
        ("0.0.0.0:9000", "media.example.com:9000", "", "http://media.example.com:9000"),
        ("[::]:9000", "media.example.com:9000", "tls.crt", "https://media.example.com:9000"),
        ("127.0.0.1:9000", "https://media.example.com", "", "https://media.example.com"),
    ],
)
def test_links_name_an_address_that_others_reach(
    address: str, public: str, certificate: str, expected: str
) -> None:
    settings = Settings(
        s3_address=address, s3_public_endpoint=public, tls_certificate_file=certificate
    )
    assert public_endpoint(settings) == expected


@pytest.mark.parametrize("address", ["0.0.0.0:9000", "[::]:9000", ":9000"])
def test_an_address_that_names_no_host_needs_one_for_links(address: str) -> None:
    with pytest.raises(SettingError, match=r"INGOT_S3_PUBLIC_ENDPOINT=media\.example\.com:9000"):
        public_endpoint(Settings(s3_address=address))
