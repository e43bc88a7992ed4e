"""Makes the certificate of the parts of SeaweedFS (seaweedfs_grpc.py).

    python -m ingot_server.local.grpc_certificate DIRECTORY HOST

It writes the certificate of an authority, one that the authority has signed, and its key, which
only this user can read. The key of the authority is thrown away.
"""

from __future__ import annotations

import ipaddress
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ingot_server.local.private_file import write_private
from ingot_server.local.seaweedfs_grpc import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE

# It must not expire while Ingot runs, and no clock that is wrong may make it invalid.
_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(2199, 12, 31, tzinfo=UTC)


def write_certificate(directory: Path, host: str) -> None:
    """Make a certificate for the address `host`, and write it."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("ingot-seaweedfs-ca", authority_key, authority_key, is_authority=True)
    certificate = _sign("ingot-seaweedfs", key, authority_key, host=host)
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    texts = {
        AUTHORITY_FILE: authority.public_bytes(pem),
        CERTIFICATE_FILE: certificate.public_bytes(pem),
        KEY_FILE: key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
    }
    for name, text in texts.items():
        write_private(directory / name, text.decode())


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


if __name__ == "__main__":
    write_certificate(Path(sys.argv[1]), sys.argv[2])
