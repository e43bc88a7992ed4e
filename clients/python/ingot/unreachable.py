"""What a message of gRPC about a connection that could not be made means to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Why a server could not be reached, and what to do. Both complete a sentence."""

    cause: str
    advice: str = ""
    """Empty if the cause alone does not tell."""


# The messages of gRPC 1.85, by a part of them.
_KNOWN: Final = {
    "CERTIFICATE_VERIFY_FAILED": Unreachable(
        "its certificate is not signed by a trusted authority, or has expired",
        "If you know the server, give the PEM file of its authority: --ca FILE, INGOT_CA, or"
        " `ca_file` of the client.",
    ),
    "Hostname Verification Check failed": Unreachable(
        "its certificate is for another host",
        "Use a host name that the certificate has.",
    ),
    "WRONG_VERSION_NUMBER": Unreachable(
        "it does not use TLS",
        "Give its address as ingot://HOST:PORT, or check the port.",
    ),
    "Socket closed": Unreachable(
        "it closed the connection at once, as a server that expects TLS does",
        "If it uses TLS, give its address as https://HOST:PORT.",
    ),
    "http1.x server": Unreachable(
        "it does not speak gRPC, which needs HTTP/2",
        "Check the port: Ingot has one for gRPC and another one for HTTP.",
    ),
    "lookup failed": Unreachable("the host name is not known", "Check the host name."),
}
_NO_CONNECTION: Final = ("failed to connect to all addresses", "errors resolving")


def explain(message: str) -> Unreachable | None:
    """Explain gRPC's message about a call; None if the call failed for another reason."""
    if not message.startswith(_NO_CONNECTION):
        return None
    for part, known in _KNOWN.items():
        if part in message:
            return known
    # gRPC puts the cause last: `...; last error: UNKNOWN: ...: Connection refused (111)`.
    return Unreachable(message.rpartition(": ")[2])
