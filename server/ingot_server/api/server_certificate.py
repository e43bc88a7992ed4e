"""The certificate of the API server, for gRPC and HTTP. Its files are read again when they change.

Each handshake compares the files with those that were read, which costs a few system calls, and
gets the certificate of that moment. What is wrong with new files is logged once, and the last ones
that could be used stay. Connections that are open keep what they began with.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from ingot_server.config import Settings
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import CERTIFICATE_EXPIRY
from ingot_server.setting_values import SettingError
from ingot_server.watched_file import FileVersion, file_version

logger = EventLogger(__name__)

Version = tuple[FileVersion, ...]

_READS: Final = 3


@dataclass(frozen=True, slots=True)
class _Certificate:
    """What was read at one time."""

    version: Version
    context: ssl.SSLContext
    configuration: grpc.ServerCertificateConfiguration


class ServerCertificate:
    """The certificate chain and the key that INGOT_TLS_CERTIFICATE_FILE and its like name.

    With INGOT_TLS_CLIENT_CA_FILE, a client has to show a certificate that is signed by one of these
    authorities, on gRPC and on HTTP. Raises SettingError if the files cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._certificate_file = Path(settings.tls_certificate_file)
        self._key_file = Path(settings.tls_key_file)
        self._authority_file = (
            Path(settings.tls_client_ca_file) if settings.tls_client_ca_file else None
        )
        # gRPC asks from threads of its own.
        self._lock = threading.Lock()
        self._refused: Version | None = None
        self._latest = self._read()

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return what a port of gRPC needs."""
        configured = self._current().configuration

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal configured
            latest = self._current().configuration
            if latest is configured:
                return None
            configured = latest
            return latest

        return grpc.dynamic_ssl_server_credentials(
            configured,
            fetch,  # type: ignore[arg-type] # None is documented as "no change"
            require_client_authentication=self._authority_file is not None,
        )

    def http_context(self) -> ssl.SSLContext:
        """Return the context of a port of HTTP, which gives each handshake the latest one."""
        context = self._current().context

        def select(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            connection.context = self._current().context

        context.sni_callback = select
        return context

    def _current(self) -> _Certificate:
        with self._lock:
            version = self._version()
            if version not in (self._latest.version, self._refused):
                try:
                    self._latest = self._read()
                    logger.info(
                        Event.CERTIFICATE_READ,
                        "the certificate in %s is used from now on",
                        self._certificate_file,
                    )
                except SettingError as error:
                    self._refused = version
                    logger.error(
                        Event.CERTIFICATE_NOT_READ,
                        "%s The certificate that was read before stays in use.",
                        error,
                    )
            return self._latest

    def _version(self) -> Version:
        return tuple(map(file_version, self._files()))

    def _files(self) -> list[Path]:
        files = [self._certificate_file, self._key_file]
        return [*files, self._authority_file] if self._authority_file else files

    def _read(self) -> _Certificate:
        for _ in range(_READS):
            try:
                version = self._version()
                # First, because OpenSSL does not say which file is missing.
                configuration = self._configuration()
                context = self._context()
                if version == self._version():
                    self._measure_lifetime()
                    return _Certificate(version, context, configuration)
            except OSError as error:  # ssl.SSLError is one
                raise SettingError(self._explained(error)) from error
        raise SettingError(f"{self._certificate_file} changed while it was read.")

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # Without a password, OpenSSL would ask for it at the terminal.
        context.load_cert_chain(self._certificate_file, self._key_file, password=_no_password)
        context.set_alpn_protocols(["http/1.1"])
        if self._authority_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._authority_file)
        return context

    def _measure_lifetime(self) -> None:
        # Only now: a server without TLS has no use for it.
        from cryptography import x509

        chain = x509.load_pem_x509_certificates(self._certificate_file.read_bytes())
        CERTIFICATE_EXPIRY.set(min(each.not_valid_after_utc.timestamp() for each in chain))

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._key_file.read_bytes(), self._certificate_file.read_bytes())
        authorities = self._authority_file.read_bytes() if self._authority_file else None
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def _explained(self, error: OSError) -> str:
        names = (
            f"INGOT_TLS_CERTIFICATE_FILE={str(self._certificate_file)!r} and "
            f"INGOT_TLS_KEY_FILE={str(self._key_file)!r}"
        )
        if self._authority_file is not None:
            names += f" and INGOT_TLS_CLIENT_CA_FILE={str(self._authority_file)!r}"
        if isinstance(error, ssl.SSLError):
            cause = error.reason or str(error)
            return (
                f"{names} cannot be used ({cause}). Name PEM files, and the key of the certificate."
            )
        return f"{names} cannot be used: {error.filename or ''} {error.strerror}.".replace(
            ":  ", ": "
        )


def _no_password() -> bytes:
    raise SettingError(
        "INGOT_TLS_KEY_FILE has a key that is encrypted with a password. Name a file with a plain "
        "key that only the server can read."
    )


def server_certificate(settings: Settings) -> ServerCertificate | None:
    """Return the certificate that the settings name; None if they name none.

    Raises SettingError if only a part of it is named, or if it cannot be used.
    """
    if bool(settings.tls_certificate_file) != bool(settings.tls_key_file):
        raise SettingError(
            "INGOT_TLS_CERTIFICATE_FILE and INGOT_TLS_KEY_FILE belong together. Set both, or none."
        )
    if settings.tls_certificate_file:
        return ServerCertificate(settings)
    if settings.tls_client_ca_file:
        raise SettingError(
            "INGOT_TLS_CLIENT_CA_FILE is for TLS. Set INGOT_TLS_CERTIFICATE_FILE and "
            "INGOT_TLS_KEY_FILE as well."
        )
    return None
