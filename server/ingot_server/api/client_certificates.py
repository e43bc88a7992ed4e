"""Callers who show a certificate, which INGOT_TLS_CLIENT_CA_FILE asks for.

TLS refuses all other clients. So without tokens and JWTs, a certificate is the credential of every
call. Who calls is the same on gRPC and on HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ingot_server.access_tokens import SCOPES, caller_name
from ingot_server.api.caller import EVERY_SCOPE
from ingot_server.config import Settings
from ingot_server.setting_values import SettingError

# What gRPC reads out of the certificate, best first: subject alternative names of the types DNS and
# URI, and the common name, which is for certificates without these (RFC 6125, section 6.4.4).
_NAMES: Final = ("peer_dns", "peer_uri", "x509_common_name")


class ClientCertificates:
    """What the settings let callers with a certificate do. Raises SettingError."""

    def __init__(self, settings: Settings) -> None:
        named = settings.certificate_scopes.replace(",", " ").split()
        self.required = bool(settings.tls_client_ca_file)
        """Whether every caller of a TLS port has one."""
        self.replace_tokens = bool(named)
        """Whether one is enough on a server that asks for tokens or JWTs."""
        if named and not self.required:
            raise SettingError(
                "INGOT_CERTIFICATE_SCOPES is for the certificates of clients. Set "
                "INGOT_TLS_CLIENT_CA_FILE as well."
            )
        if unknown := set(named) - SCOPES.keys():
            raise SettingError(
                f"INGOT_CERTIFICATE_SCOPES has {min(unknown)!r}. It may have {', '.join(SCOPES)}."
            )
        self.scopes = frozenset(SCOPES[name] for name in named) or EVERY_SCOPE

    @staticmethod
    def name(properties: Mapping[str, Iterable[bytes]]) -> str:
        """Return the name of the caller, from the `auth_context` of a call on gRPC.

        `properties_of` returns the same for HTTP. Empty if there is no certificate, or no name in
        it.
        """
        for key in _NAMES:
            for value in properties.get(key, ()):
                if value:
                    return caller_name(value.decode(errors="surrogateescape"))
        return ""


def properties_of(certificate: Mapping[str, Any]) -> Mapping[str, Iterable[bytes]]:
    """Return what gRPC reads out of a certificate, here as `ssl.SSLSocket.getpeercert` returns it.

    Only what names a caller. Empty if there is no certificate.
    """
    found: dict[str, list[bytes]] = {}
    for kind, value in certificate.get("subjectAltName", ()):
        found.setdefault(f"peer_{kind.lower()}", []).append(value.encode())
    for attributes in certificate.get("subject", ()):
        for kind, value in attributes:
            if kind == "commonName":
                found.setdefault("x509_common_name", []).append(value.encode())
    return found
