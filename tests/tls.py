"""A TLS server's certificate for tests, its own authority, valid until 2126.

For 127.0.0.1, localhost, media.example, and the hosts of YouTube and Telegram that stand-ins play.
Nothing outside the tests trusts it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIICUTCCAfegAwIBAgIULRttjJpB95MaI6vICDJ6mXHk2ZkwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRSW5nb3QgdGVzdCBvcmlnaW4wIBcNMjYxMTIxMTA1MDQ3WhgP
MjEyNjEwMjgxMDUwNDdaMBwxGjAYBgNVBAMMEUluZ290IHRlc3Qgb3JpZ2luMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1Rk2rbri0y+n1ca2LY5YiBPpFvPYnYsk
pQZKc9AuHiEg3aV+Vvnf4NPe/TgAdiENUngtZs1HvMmaVs+w7sBfuqOCARMwggEP
MB0GA1UdDgQWBBSw72gNItd8AvMk5Zfrd5SXkjxIBTAfBgNVHSMEGDAWgBSw72gN
Itd8AvMk5Zfrd5SXkjxIBTAPBgNVHRMBAf8EBTADAQH/MAsGA1UdDwQEAwIChDCB
rgYDVR0RBIGmMIGjhwR/AAABgglsb2NhbGhvc3SCDW1lZGlhLmV4YW1wbGWCC3lv
dXR1YmUuY29tgg0qLnlvdXR1YmUuY29tggh5b3V0dS5iZYILKi55dGltZy5jb22C
ESouZ29vZ2xldmlkZW8uY29tghd5b3V0dWJlaS5nb29nbGVhcGlzLmNvbYIEdC5t
ZYIOKi50ZWxlZ3JhbS5vcmeCDCoudGVsZXNjby5wZTAKBggqhkjOPQQDAgNIADBF
AiEA1gUUCMZrmiHazq2usw2/PZRYAiBVnwizlxIQrJbkufICIDRfhXyMTMT+FFgH
v3P1lteY3AxIDBEAFAzQ4vCsCRtZ
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQgvOsxMCIcL7GFO0
Xvf3u/M+8Si9tn24icBWIe6sWGuhRANCAATVGTatuuLTL6fVxrYtjliIE+kW89id
iySlBkpz0C4eISDdpX5W+d/g0979OAB2IQ1SeC1mzUe8yZpWz7DuwF+6
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
