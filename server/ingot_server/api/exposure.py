"""What a server that other machines can reach must have before it starts."""

from __future__ import annotations

from ingot_server.api.hosts import host_of, is_loopback
from ingot_server.config import Settings
from ingot_server.setting_values import SettingError


def require_guarded(settings: Settings) -> None:
    """Check that a server which other machines can reach asks who calls, and speaks TLS.

    The S3 server of `up` answers nothing without a signature, so it only needs TLS. INGOT_INSECURE
    waives either or both. Raises SettingError if something else is missing.
    """
    api = _exposed(
        INGOT_GRPC_ADDRESS=settings.grpc_address, INGOT_HTTP_ADDRESS=settings.http_address
    )
    exposed = api + _exposed(INGOT_S3_ADDRESS=settings.s3_address)
    missing = {
        "authentication": bool(api) and not _authenticates(settings),
        "tls": bool(exposed) and not settings.tls_certificate_file,
    }
    remedies = {
        "authentication": "tokens in INGOT_TOKENS_FILE (`ingot-server token` makes them) or "
        "JWTs (INGOT_JWKS_URL)",
        "tls": "a certificate in INGOT_TLS_CERTIFICATE_FILE",
    }
    waived = settings.insecure.replace(",", " ").split()
    needed = [
        name
        for name, is_missing in missing.items()
        if is_missing and name not in waived and "all" not in waived
    ]
    if needed:
        flag = "--insecure" if len(needed) == len(missing) else f"--insecure={needed[0]}"
        raise SettingError(
            f"Other machines can reach this server ({' and '.join(exposed)}), so it needs "
            f"{' and '.join(remedies[name] for name in needed)}. Without that, listen on "
            "127.0.0.1; or, if the network or a proxy guards it, start it with "
            f"{flag} (INGOT_INSECURE)."
        )


def _exposed(**addresses: str) -> list[str]:
    """Return the settings whose addresses other machines can reach."""
    return [
        f"{variable}={address}"
        for variable, address in addresses.items()
        if address and not _is_local(address)
    ]


def _authenticates(settings: Settings) -> bool:
    """Return whether not everybody who reaches the server may call it."""
    return bool(
        settings.tokens_file or settings.tokens or settings.jwks_url or settings.tls_client_ca_file
    )


def _is_local(address: str) -> bool:
    """Return whether only this machine can reach an address, HOST:PORT or unix:PATH."""
    return address.startswith("unix:") or is_loopback(host_of(address))
