"""How client and server know each other: the authorities to trust, and what each call carries."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from ingot.address import Address

_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for TLS; each may be empty."""

    ca: str | os.PathLike[str] = ""
    """The authorities to trust instead of the public ones."""
    certificate: str | os.PathLike[str] = ""
    """The chain of the client's certificate."""
    key: str | os.PathLike[str] = ""
    """The key of the certificate. Empty means that it is in the file of the certificate."""


def channel_credentials(
    address: Address, credentials: grpc.ChannelCredentials | None, files: TlsFiles
) -> grpc.ChannelCredentials | None:
    """Return the credentials of the channel to `address`; None means without TLS.

    Raises ValueError if `files` are of no use, and OSError if one cannot be read.
    """
    if files == TlsFiles():
        return credentials or (grpc.ssl_channel_credentials() if address.tls else None)
    if credentials is not None:
        raise ValueError("Give either `credentials` or files for TLS, not both.")
    if not address.tls:
        what = "A certificate authority" if os.fspath(files.ca) else "A certificate"
        raise ValueError(
            f"{what} is for TLS, and the address of the server is without TLS. Give"
            " it as https://HOST[:PORT]."
        )
    authorities = read_authorities(files.ca) if os.fspath(files.ca) else None
    return grpc.ssl_channel_credentials(authorities, *_read_pair(files))


def _read_pair(files: TlsFiles) -> tuple[bytes, bytes] | tuple[None, None]:
    """Return the key and the chain of the client, if it has them."""
    if not os.fspath(files.certificate):
        if os.fspath(files.key):
            raise ValueError("A key is of no use without its certificate. Give both.")
        return None, None
    key = files.key if os.fspath(files.key) else files.certificate
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(files.certificate, key, password="")
    except ssl.SSLError:
        raise ValueError(
            f"{os.fspath(files.certificate)} and {os.fspath(key)} do not have a certificate in PEM"
            " format and its key, without a password."
        ) from None
    return Path(key).read_bytes(), Path(files.certificate).read_bytes()


def read_authorities(ca_file: str | os.PathLike[str]) -> bytes:
    """Return the certificates in a PEM file. Raises ValueError if there are none, and OSError."""
    content = Path(ca_file).read_bytes()
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=content.decode("ascii", errors="replace"))
    except (ssl.SSLError, ValueError):
        raise ValueError(f"{os.fspath(ca_file)} has no certificates in PEM format.") from None
    return content


def call_metadata(
    address: Address, metadata: Mapping[str, str], token: str, *, encrypted: bool, plaintext: bool
) -> dict[str, str]:
    """Return the metadata of every call: `metadata`, and `token` as `authorization`.

    `plaintext` allows to send the token to another machine although the connection is not
    `encrypted`. Raises ValueError if it is not allowed, or if something cannot be sent.
    """
    result = {}
    for name, value in metadata.items():
        check_header(name.lower(), value)
        result[name.lower()] = value
    if not token:
        return result
    if not _TOKEN.fullmatch(token):
        raise ValueError("A token has only visible ASCII characters, and no spaces.")
    if "authorization" in result:
        raise ValueError("Give either a token or the header `authorization`, not both.")
    if not (encrypted or address.is_local or plaintext):
        raise ValueError(
            f"The token was not sent, because the connection to {address.target} is not encrypted."
            " Use https://HOST[:PORT]; or, if the network is trusted, --allow-plaintext-token"
            " (`allow_plaintext_token` of the client)."
        )
    return {**result, "authorization": f"Bearer {token}"}


def check_header(name: str, value: str) -> None:
    """Raise ValueError if gRPC cannot send this header."""
    if not _NAME.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
        raise ValueError(
            f"{name!r} is not the name of a header that can be sent: it has letters, digits, `-`,"
            " `_` and `.`, does not begin with grpc- and does not end with -bin."
        )
    if not _VALUE.fullmatch(value):
        raise ValueError(f"The value of the header {name} has other than printable ASCII.")
