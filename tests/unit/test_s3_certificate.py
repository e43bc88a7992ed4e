"""The certificate that is shown to an S3 server which requires one."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from ingot_server.config import Settings
from ingot_server.library.s3 import S3
from ingot_server.setting_values import Secret, SettingError
from tests.certificates import Authority


@contextmanager
def bucket(context: ssl.SSLContext, names: list[str]) -> Iterator[str]:
    """Answers one request for a bucket, and notes the name in the client's certificate."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as client:
                certificate = client.getpeercert(binary_form=True)
                assert certificate is not None
                subject = x509.load_der_x509_certificate(certificate).subject
                names.append(subject.rfc4514_string())
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        answering.join()


async def test_a_server_that_requires_a_certificate_gets_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, own = authority.issue("s3"), authority.issue("ingot")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(pair.certificate, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    names: list[str] = []
    with bucket(context, names) as endpoint:
        s3 = S3(
            Settings(
                s3_endpoint=endpoint,
                s3_access_key="a",
                s3_secret_key=Secret("b"),
                s3_secure=True,
                s3_ca_file=str(authority.file),
                s3_certificate_file=str(own.certificate),
                s3_certificate_key_file=str(own.key),
            )
        )
        assert await s3.small.run(lambda: s3.small.client.bucket_exists("ingot"))
        await s3.close()
    assert names == ["CN=ingot"]


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    for name in ("junk.pem", "none.pem"):
        with pytest.raises(SettingError, match=f"INGOT_S3_CERTIFICATE_FILE=.*{name}"):
            S3(Settings(s3_certificate_file=str(tmp_path / name)))
