"""The certificates of clients: whose they are, and what the settings let their owners do."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.scope_pb2 import Scope
from ingot_server.access_tokens import entry, new_token
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import EVERY_SCOPE
from ingot_server.api.client_certificates import ClientCertificates, properties_of
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.setting_values import CacheSharing, SettingError

PEER = "ipv4:127.0.0.1:40000"
SPIFFE = b"spiffe://example.org/recorder"
HASHED = hashlib.sha256(SPIFFE).hexdigest()[:32]


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"peer_dns": [b"a.example", b"b.example"], "x509_common_name": [b"c"]}, "a.example"),
        ({"peer_uri": [SPIFFE], "x509_common_name": [b"c"]}, HASHED),
        ({"peer_uri": [SPIFFE], "peer_dns": [b"a.example"]}, "a.example"),
        ({"x509_common_name": [b"recorder"], "peer_ip": [b"127.0.0.1"]}, "recorder"),
        ({"x509_common_name": [b"\xff"]}, hashlib.sha256(b"\xed\xb3\xbf").hexdigest()[:32]),
        ({"x509_common_name": [b""]}, ""),
        ({"peer_ip": [b"127.0.0.1"]}, ""),
        ({}, ""),
    ],
)
def test_the_best_name_in_a_certificate_counts(
    properties: dict[str, list[bytes]], name: str
) -> None:
    assert ClientCertificates.name(properties) == name


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (
            {
                "subject": ((("organizationName", "x"),), (("commonName", "c"),)),
                "subjectAltName": (("IP Address", "127.0.0.1"), ("DNS", "a.example"), ("DNS", "b")),
            },
            "a.example",
        ),
        ({"subjectAltName": (("URI", SPIFFE.decode()),)}, HASHED),
        ({"subject": ((("commonName", "recorder"),),)}, "recorder"),
        ({"subject": ((("organizationName", "x"),),)}, ""),
        ({}, ""),
    ],
)
def test_a_certificate_has_the_same_name_on_http(certificate: dict[str, Any], name: str) -> None:
    assert ClientCertificates.name(properties_of(certificate)) == name


async def test_without_the_setting_owners_of_certificates_may_do_everything() -> None:
    authentication = Authentication(Settings(tls_client_ca_file="ca.pem"))

    caller = await authentication.admit(Scope.SCOPE_DELETE, PEER, "", "recorder")

    assert (caller.name, caller.key, caller.scopes) == ("recorder", "recorder", EVERY_SCOPE)


@pytest.mark.parametrize("scopes", ["", "write"])
async def test_a_certificate_without_a_name_is_no_credential(scopes: str) -> None:
    """It could not be told from others, and would cancel a job for all of its callers."""
    settings = Settings(tls_client_ca_file="ca.pem", certificate_scopes=scopes)

    with pytest.raises(Failure, match="does not say whose it is") as caught:
        await Authentication(settings).admit(Scope.SCOPE_WRITE, PEER, "", "")
    assert caught.value.reason == reason_pb2.REASON_UNAUTHENTICATED


async def test_a_unix_socket_needs_no_certificate() -> None:
    settings = Settings(tls_client_ca_file="ca.pem")

    caller = await Authentication(settings).admit(Scope.SCOPE_WRITE, "unix:", "", "")

    assert caller.is_admin


async def test_a_certificate_without_a_name_is_enough_with_a_token() -> None:
    token = new_token()
    settings = Settings(tls_client_ca_file="ca.pem", tokens=entry(token, "ci", ["write"], None))

    caller = await Authentication(settings).admit(Scope.SCOPE_WRITE, PEER, f"Bearer {token}", "")

    assert caller.name == "ci"


async def test_where_nobody_has_a_name_everyone_may_change_everything() -> None:
    everyone = await Authentication(Settings()).admit(Scope.SCOPE_DELETE, PEER, "", "")
    assert everyone.may_change("recorder")


async def test_a_caller_without_a_name_is_refused_where_each_has_its_own_media() -> None:
    unnamed = Authentication(Settings(cache_sharing=CacheSharing.PRIVATE))
    with pytest.raises(Failure, match="needs a name"):
        await unnamed.admit(Scope.SCOPE_READ, PEER, "", "")
    private = Settings(tls_client_ca_file="ca.pem", cache_sharing=CacheSharing.PRIVATE)
    named = await Authentication(private).admit(Scope.SCOPE_READ, PEER, "", "recorder")
    assert named.tenant == "recorder"


@pytest.mark.parametrize(
    ("authority", "scopes", "wrong"),
    [
        ("", "read", "Set INGOT_TLS_CLIENT_CA_FILE as well"),
        ("ca.pem", "read, all", "has 'all'. It may have read, ingest"),
    ],
)
def test_scopes_that_cannot_be_used_say_why(authority: str, scopes: str, wrong: str) -> None:
    with pytest.raises(SettingError, match=wrong):
        Authentication(Settings(tls_client_ca_file=authority, certificate_scopes=scopes))
