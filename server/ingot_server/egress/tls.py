"""The certificate authorities that TLS trusts: the system's and the deployment's own."""

from __future__ import annotations

import ssl
from functools import lru_cache

from ingot_server.setting_values import SettingError


@lru_cache(maxsize=8)
def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those in `ca_file`, if any.

    Raises SettingError when the file cannot be used.
    """
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as exc:
            raise SettingError(
                f"INGOT_EGRESS_CA_FILE={ca_file!r} cannot be used: {exc}. Name a PEM file."
            ) from exc
    return context
