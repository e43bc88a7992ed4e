"""A TLS server's certificate for tests, its own authority, valid until 2126.

For 127.0.0.1, localhost and media.example. Nothing outside the tests trusts it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBzDCCAXKgAwIBAgIUWsCNguo0HW1K3cCMFe/twKAW6MIwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRSW5nb3QgdGVzdCBvcmlnaW4wIBcNMjYxMTIxMDk0ODAxWhgP
MjEyNjEwMjgwOTQ4MDFaMBwxGjAYBgNVBAMMEUluZ290IHRlc3Qgb3JpZ2luMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBsTP71C2ZIV5UXCtQ46dSs4TR0WVTfp/
Ab2n8gkVq3Qy6uojngt/NwY2EloILHy6nOGAmON26CvO2m6gZdK93aOBjzCBjDAd
BgNVHQ4EFgQUFEBsz6bowXpGM+i7as6aldx16DkwHwYDVR0jBBgwFoAUFEBsz6bo
wXpGM+i7as6aldx16DkwDwYDVR0TAQH/BAUwAwEB/zApBgNVHREEIjAghwR/AAAB
gglsb2NhbGhvc3SCDW1lZGlhLmV4YW1wbGUwDgYDVR0PAQH/BAQDAgKEMAoGCCqG
SM49BAMCA0gAMEUCIQD4w+TQpA6elvsZLONNhDLYB6JSWEEZ9UqjgTULyZl0KwIg
cHPg4cFadu+kyryhOXIWSx2X8Sy+rW4se9TBakB5MuU=
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgawS6ys3Y6bjHY7DN
/Ty6rzG4i40eJg0WHWal+Q5FD4yhRANCAAQGxM/vULZkhXlRcK1Djp1KzhNHRZVN
+n8BvafyCRWrdDLq6iOeC383BjYSWggsfLqc4YCY43boK87abqBl0r3d
-----END PRIVATE KEY-----
"""


def server_context(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server needs, and the PEM file of the authority that a client must trust."""
    chain = directory / "origin.pem"
    chain.write_text(CERTIFICATE + KEY)
    authority = directory / "authority.pem"
    authority.write_text(CERTIFICATE)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    return context, authority
