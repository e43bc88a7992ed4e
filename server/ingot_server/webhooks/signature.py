"""The signatures of webhooks, as Standard Webhooks say (https://www.standardwebhooks.com).

A request has one signature for each secret of INGOT_WEBHOOK_SECRETS, so receivers accept it while
the secrets are being replaced. The operator's own webhook is signed with these secrets. Every other
URL has secrets of its own, which are derived from them: who can verify the webhooks of one URL
cannot forge those of another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from ingot_server.config import Settings
from ingot_server.setting_checks import parse_webhook_secrets

_PURPOSE: Final = b"ingot webhook "


def secrets_of(url: str, settings: Settings) -> Sequence[str]:
    """Return the secrets that webhooks for `url` are signed with, as `whsec_...`, the first first.

    The query of the URL does not count. Empty if the settings have no secrets.
    """
    own = parse_webhook_secrets(str(settings.webhook_secrets))
    if url == settings.webhook_url:
        keys = own
    else:
        subject = _PURPOSE + url.partition("?")[0].encode()
        keys = [hmac.new(key, subject, hashlib.sha256).digest() for key in own]
    return ["whsec_" + base64.b64encode(key).decode() for key in keys]


def signature_headers(delivery_id: str, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the header fields that sign a request which is sent now."""
    now = datetime.now(UTC)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(delivery_id, now, body.decode()) for secret in secrets
        ),
    }
