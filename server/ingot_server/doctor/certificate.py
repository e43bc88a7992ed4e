"""Whether the certificate of the API server can be used, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from ingot_server.api.server_certificate import server_certificate
from ingot_server.config import Settings
from ingot_server.findings import Finding, ok, problem, warning

# What renews certificates does so earlier: certbot 30 days before the end.
_SOON: Final = timedelta(days=14)
_RENEW: Final = "Renew it. Ingot reads the files again when they change, without a restart."


async def check_certificate(settings: Settings) -> Sequence[Finding]:
    """Return what there is to say of the certificate; nothing if there is none.

    Raises SettingError if it cannot be used.
    """
    if server_certificate(settings) is None:
        return []
    return [check_lifetime(_chain(Path(settings.tls_certificate_file)), datetime.now(UTC))]


def check_lifetime(chain: Sequence[x509.Certificate], now: datetime) -> Finding:
    """Return whether all certificates of a chain are valid `now`, and stay so for two weeks."""
    name = "certificate"
    begin = max(each.not_valid_before_utc for each in chain)
    end = min(each.not_valid_after_utc for each in chain)
    if now < begin:
        return problem(
            name,
            f"The certificate is valid from {begin:%Y-%m-%d %H:%M} UTC on.",
            "Use one that is valid now, or set the clock of this machine.",
        )
    if now > end:
        return problem(name, f"The certificate expired on {end:%Y-%m-%d %H:%M} UTC.", _RENEW)
    if end - now < _SOON:
        return warning(name, f"The certificate expires on {end:%Y-%m-%d %H:%M} UTC.", _RENEW)
    return ok(name, f"The certificate is valid until {end:%Y-%m-%d}.")


def _chain(file: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(file.read_bytes())
