"""What a server that other machines can reach must have before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from ingot_server.api.hosts import host_of, is_loopback
from ingot_server.config import Settings
from ingot_server.setting_values import SettingError

_REMEDIES: Final = {
    "authentication": "tokens in INGOT_TOKENS_FILE (`ingot-server token` makes them) or "
    "JWTs (INGOT_JWKS_URL)",
    "tls": "a certificate in INGOT_TLS_CERTIFICATE_FILE",
}


def require_guarded(settings: Settings) -> None:
    """Check that a server which other machines can reach asks who calls, and speaks TLS.

    The S3 server of `up` answers nothing without a signature, so it only needs TLS. INGOT_INSECURE
    waives either or both. Raises SettingError if something else is missing.
    """
    api = _exposed(
        INGOT_GRPC_ADDRESS=settings.grpc_address, INGOT_HTTP_ADDRESS=settings.http_address
    )
    api += _exposed_metrics(settings)
    exposed = api + _exposed(INGOT_S3_ADDRESS=settings.s3_address)
    needed = _needed(settings, api, exposed)
    if needed:
        flag = "--insecure" if len(needed) == len(_REMEDIES) else f"--insecure={needed[0]}"
        _refuse("server", exposed, needed, f"start it with {flag} (INGOT_INSECURE)")


def require_guarded_metrics(settings: Settings) -> None:
    """Check the same of a worker that serves its metrics. Raises SettingError."""
    exposed = _exposed_metrics(settings)
    needed = _needed(settings, exposed, exposed)
    if needed:
        _refuse("worker", exposed, needed, "let INGOT_OPEN_SERVICES name `metrics`, too")


def _exposed_metrics(settings: Settings) -> list[str]:
    """Return the metrics address, unless everyone who reaches it may read them."""
    is_open = "metrics" in settings.open_services.replace(",", " ").split()
    return [] if is_open else _exposed(INGOT_METRICS_ADDRESS=settings.metrics_address)


def _needed(settings: Settings, api: Sequence[str], exposed: Sequence[str]) -> list[str]:
    """Return what is missing and not waived, if there is an API to authenticate at."""
    missing = {
        "authentication": bool(api) and not _authenticates(settings),
        "tls": bool(exposed) and not settings.tls_certificate_file,
    }
    waived = settings.insecure.replace(",", " ").split()
    return [
        name
        for name, is_missing in missing.items()
        if is_missing and name not in waived and "all" not in waived
    ]


def _refuse(what: str, exposed: Sequence[str], needed: Sequence[str], waiver: str) -> NoReturn:
    raise SettingError(
        f"Other machines can reach this {what} ({' and '.join(exposed)}), so it needs "
        f"{' and '.join(_REMEDIES[name] for name in needed)}. Without that, listen on "
        f"127.0.0.1; or, if the network or a proxy guards it, {waiver}."
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
