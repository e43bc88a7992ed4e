"""The sessions of the web page, which all API servers share.

    ingot:page-session:<id>          the token of a session, encrypted; expires with the session
    ingot:page-sessions:<caller>     list of the ids of the caller's sessions, the latest first

A session has a random secret, which only the cookie has. Its id is derived from that secret, and so
is the key that encrypts the token (AES-256-GCM, NIST SP 800-38D). So whoever reads Redis learns
neither tokens nor cookies, and whoever has a cookie learns no token, and nothing is left of it when
the session has ended.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from typing import Final, cast

from ingot_server.redis import Redis, unavailable

MOST_SESSIONS: Final = 100
"""How many sessions a caller has at most. Another one ends the oldest."""

_SESSION: Final = "page-session:"
_SESSIONS_OF: Final = "page-sessions:"
_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class StoredSessions:
    """Sessions that last for `lifetime`. Every method raises Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis, lifetime: timedelta) -> None:
        self._redis = redis
        self._lifetime = lifetime

    async def begin(self, caller: str, token: str) -> str:
        """Keep the token of a caller. Return the secret of its new session, for a cookie."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        session, listed = self._key(secret), self._redis.key(_SESSIONS_OF + caller)
        with unavailable():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.set(session, _sealed(secret, token), px=self._lifetime)
                pipeline.lpush(listed, session)
                pipeline.lrange(listed, MOST_SESSIONS, -1)
                pipeline.ltrim(listed, 0, MOST_SESSIONS - 1)
                pipeline.pexpire(listed, self._lifetime)
                _, _, too_many, *_ = await pipeline.execute()
            if too_many:
                await self._redis.delete(*too_many)
        return secret

    async def token(self, secret: str) -> str:
        """Return the token of a session; empty if the session has ended or never existed."""
        with unavailable():
            sealed = cast("bytes | None", await self._redis.get(self._key(secret)))
        return _opened(secret, sealed) if sealed else ""

    async def end(self, secret: str) -> None:
        """Forget a session, if there is one."""
        with unavailable():
            await self._redis.delete(self._key(secret))

    def _key(self, secret: str) -> str:
        return self._redis.key(_SESSION + _derived(secret, b"id").hex())


def _sealed(secret: str, token: str) -> bytes:
    # Imported by the first session: it takes 10 MiB, and most servers have none.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(_derived(secret, b"key")).encrypt(nonce, token.encode(), None)


def _opened(secret: str, sealed: bytes) -> str:
    """Return the token. Empty if another program than Ingot has written it."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return AESGCM(_derived(secret, b"key")).decrypt(nonce, content, None).decode()
    except (InvalidTag, ValueError):
        return ""


def _derived(secret: str, purpose: bytes) -> bytes:
    """Return 32 bytes that tell nothing about the secret, or about those for another purpose."""
    return hmac.digest(secret.encode(), purpose, "sha256")
