"""The webhook of a request: which URLs are accepted."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import urlsplit

from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    ConvertRequest,
    IngestRequest,
    UploadHeader,
)
from ingot.v1.job_service_pb2 import RetryJobRequest
from ingot_server.allowed_destinations import parse_allowed_destinations
from ingot_server.api.status import invalid
from ingot_server.config import Settings
from ingot_server.egress.addresses import literal_address
from ingot_server.egress.destinations import Destinations
from ingot_server.errors import Failure

Notified: TypeAlias = (
    IngestRequest | ConvertRequest | RetryJobRequest | UploadHeader | CompleteUploadRequest
)
"""Requests that can have a webhook."""


def check_webhook(request: Notified, settings: Settings) -> None:
    """Check the webhook of a request without looking anything up; the guard does that later.

    Raises Failure: WEBHOOKS_NOT_CONFIGURED, INVALID_REQUEST, ADDRESS_FORBIDDEN.
    """
    if not request.webhook_url:
        return
    if not settings.webhook_secrets:
        raise Failure(
            reason_pb2.REASON_WEBHOOKS_NOT_CONFIGURED,
            "This installation signs no webhooks. Watch the job instead, or have the operator set "
            "INGOT_WEBHOOK_SECRETS.",
            metadata={"setting": "webhook_secrets"},
        )
    try:
        parts = urlsplit(request.webhook_url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError):
        host, port = None, 0
    if host is None or "@" in parts.netloc:
        raise invalid({"webhook_url": "must be an http or https URL with a host and no user info"})
    allowed = parse_allowed_destinations(settings.egress_allow)
    literal = literal_address(host)
    # A name may lead into a network that is allowed.
    is_open = allowed.contains_all([literal]) if literal else bool(allowed.networks)
    if not (is_open or allowed.names(host, port)):
        Destinations(settings).check(host, port)


def webhook_of(request: object) -> str:
    """Return the URL that gets a webhook for a request of any kind; empty if none does."""
    return request.webhook_url if isinstance(request, Notified) else ""
