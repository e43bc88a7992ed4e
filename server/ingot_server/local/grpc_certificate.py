"""Mutual TLS among the parts of SeaweedFS, whose gRPC ports would obey every user of the machine.

They delete, read and forge whatever they are told to. So each connection needs a certificate that
only this user can read. It is made anew at each start, and the key of its authority is thrown away.

    <data directory>/
        grpc-ca.pem, grpc.pem, grpc-key.pem     mode 0600
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ingot_server.local.private_file import write_private

if TYPE_CHECKING:
    import grpc

_AUTHORITY: Final = "grpc-ca.pem"
_CERTIFICATE: Final = "grpc.pem"
_KEY: Final = "grpc-key.pem"

# The parts that listen, those that only connect, and what the documentation of SeaweedFS lists as
# parts of it. One without a section would accept everyone.
_PARTS: Final = (
    *("master", "volume", "filer", "s3", "admin", "worker", "client"),
    *("mq", "msg_broker", "msg_agent"),
)
# It must not expire while Ingot runs, and no clock that is wrong may make it invalid.
_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(2199, 12, 31, tzinfo=UTC)


def write_certificate(directory: Path, host: str) -> str:
    """Make a certificate for the address `host`. Return the part of security.toml that uses it."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("ingot-seaweedfs-ca", authority_key, authority_key, is_authority=True)
    certificate = _sign("ingot-seaweedfs", key, authority_key, host=host)
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    texts = {
        _AUTHORITY: authority.public_bytes(pem),
        _CERTIFICATE: certificate.public_bytes(pem),
        _KEY: key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
    }
    for name, text in texts.items():
        write_private(directory / name, text.decode())
    # It is started in `directory`.
    parts = "".join(f'[grpc.{part}]\ncert = "{_CERTIFICATE}"\nkey = "{_KEY}"\n' for part in _PARTS)
    return f'[grpc]\nca = "{_AUTHORITY}"\n{parts}'


def channel_credentials(directory: Path) -> grpc.ChannelCredentials:
    """Return what a client of the SeaweedFS in `directory` needs."""
    # Imported here: it takes a tenth of the time in which `up` must be ready.
    import grpc

    authority, key, certificate = (
        (directory / name).read_bytes() for name in (_AUTHORITY, _KEY, _CERTIFICATE)
    )
    return grpc.ssl_channel_credentials(authority, key, certificate)


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = False,
    host: str = "",
) -> x509.Certificate:
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ingot-seaweedfs-ca")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if host:
        address = x509.IPAddress(ipaddress.ip_address(host))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(authority_key, hashes.SHA256())
