"""Whether the API server of this machine says that it serves, however it listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ingot_server.api.hosts import host_of, is_every_address
from ingot_server.config import Settings
from ingot_server.heartbeat import Unhealthy

_SECONDS: Final = 4.0


def require_serving(grpc_address: str, settings: Settings) -> None:
    """Ask the health service at `grpc_address`. Raises Unhealthy if it does not say SERVING."""
    with _channel(grpc_address, settings) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        call = health.Check.future(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        code = call.code()  # waits for the end of the call
        if code != grpc.StatusCode.OK:
            raise Unhealthy(f"{grpc_address}: {code.name}: {call.details()}")
        if call.result().status != health_pb2.HealthCheckResponse.SERVING:
            raise Unhealthy(
                f"{grpc_address} is not serving: Redis or S3 cannot be used, or the server stops."
            )


def _channel(grpc_address: str, settings: Settings) -> grpc.Channel:
    # It would go through the proxy in `http_proxy`, also to this machine.
    options: list[tuple[str, object]] = [("grpc.enable_http_proxy", 0)]
    target = _reachable(grpc_address)
    if not settings.tls_certificate_file:
        return grpc.insecure_channel(target, options)
    # This is the server's own machine, so what it trusts is that very certificate.
    chain = Path(settings.tls_certificate_file).read_bytes()
    credentials = grpc.ssl_channel_credentials(
        chain, Path(settings.tls_key_file).read_bytes(), chain
    )
    name = _name_in(x509.load_pem_x509_certificate(chain))
    return grpc.secure_channel(
        target, credentials, [*options, ("grpc.ssl_target_name_override", name)]
    )


def _reachable(address: str) -> str:
    """Return where a server that listens on `address` can be reached from its own machine."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or not is_every_address(host_of(host)):
        return address
    return f"[::1]:{port}" if ":" in host else f"127.0.0.1:{port}"


def _name_in(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    return found[0].replace("*", "any", 1)
