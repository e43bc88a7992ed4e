"""An identity provider: keys, the endpoint that publishes them, and the JWTs that they sign."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.web_server import web_server

ISSUER = "https://login.example.com/"
AUDIENCE = "ingot"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def published(key: Key, key_id: str | None, **members: Any) -> dict[str, Any]:
    """The public part of a key as a JWK."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**jwk, **({} if key_id is None else {"kid": key_id}), **members}


def token(key: Any, algorithm: str = "ES256", key_id: str | None = "first", **claims: Any) -> str:
    """A JWT that is right but for `claims`; those that are None are left out."""
    content = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "recorder",
        "exp": int(time.time()) + 3600,
        "scope": "openid read ingest",
        **claims,
    }
    headers = {} if key_id is None else {"kid": key_id}
    present = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(present, key, algorithm=algorithm, headers=headers)


class IdentityProvider:
    """Publishes `keys` at `url`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.status = 200
        self.asked = 0
        self.url = ""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a server that trusts it."""
        return {"jwks_url": self.url, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}

    async def _serve(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({"keys": self.keys}, status=self.status)


@asynccontextmanager
async def identity_provider(*keys: dict[str, Any]) -> AsyncIterator[IdentityProvider]:
    provider = IdentityProvider()
    provider.keys = list(keys)
    async with web_server(provider._serve) as address:
        provider.url = f"http://{address}/keys"
        yield provider
