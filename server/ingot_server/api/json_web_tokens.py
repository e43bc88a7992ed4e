"""Tokens that an identity provider has signed: JWTs (RFC 7519), checked as RFC 8725 says.

A token counts if one of the provider's keys has signed it with an asymmetric algorithm of that key,
if issuer and audience are those of the settings, and if it has a subject and has not expired. The
header of a token chooses among the provider's keys, and nothing else.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import jwt
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from ingot.v1 import reason_pb2
from ingot.v1.scope_pb2 import Scope
from ingot_server.access_tokens import SCOPES, caller_name
from ingot_server.api.signing_keys import DEFAULT_INTERVALS, Intervals, SigningKeys
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.outage import LONGEST_PAUSE_SECONDS

# Between the clocks of the provider and of this machine.
_LEEWAY_SECONDS: Final = 30
# While there are no keys, they are asked for at least as often.
_RETRY_AFTER: Final = timedelta(seconds=LONGEST_PAUSE_SECONDS)
# Checking a token takes some hundred microseconds. An entry takes about 1 KiB.
_CACHED_TOKENS: Final = 10_000


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token says about its caller."""

    name: str
    scopes: frozenset[Scope.ValueType]
    expires: int
    """When it is not accepted any more, in seconds since 1970."""


class JsonWebTokens:
    """The JWTs of the provider that the settings name."""

    def __init__(self, settings: Settings, intervals: Intervals = DEFAULT_INTERVALS) -> None:
        self._keys = SigningKeys(settings, intervals)
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._claim = settings.jwt_scopes_claim
        self._prefix = settings.jwt_scopes_prefix
        # By the digests of tokens, least recently used first.
        self._verified: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._version = 0

    async def keep_current(self) -> None:
        """Follow changes of the provider's keys. Never ends."""
        await self._keys.keep_current()

    async def verify(self, token: str) -> VerifiedToken:
        """Return what a token says. It waits only for the key of a token that is not known.

        Raises Failure TOKEN_INVALID, TOKEN_EXPIRED, and SIGNING_KEYS_UNAVAILABLE while no keys have
        been fetched since the start.
        """
        if self._version != self._keys.version:
            # A key that has signed one of them may have been withdrawn.
            self._verified.clear()
            self._version = self._keys.version
        digest = hashlib.sha256(token.encode()).digest()
        found = self._verified.get(digest)
        if found is not None:
            self._verified.move_to_end(digest)
        else:
            found = await self._checked(token)
            self._verified[digest] = found
            if len(self._verified) > _CACHED_TOKENS:
                self._verified.popitem(last=False)
        if found.expires <= time.time():
            raise _expired()
        return found

    async def _checked(self, token: str) -> VerifiedToken:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except (PyJWTError, ValueError) as error:
            raise _invalid(str(error)) from error
        key = await self._keys.find(key_id)
        if key is None:
            raise self._without_key(key_id)
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=sorted(key.algorithms),
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "sub"], "enforce_minimum_key_length": True},
            )
        except ExpiredSignatureError as error:
            raise _expired() from error
        except (PyJWTError, ValueError) as error:
            raise _invalid(str(error)) from error
        if not claims["sub"]:
            raise _invalid("its subject is empty")
        return VerifiedToken(
            caller_name(claims["sub"]),
            _scopes(claims.get(self._claim), self._prefix),
            int(claims["exp"]) + _LEEWAY_SECONDS,
        )

    def _without_key(self, key_id: str | None) -> Failure:
        if not self._keys.fetched:
            return Failure(
                reason_pb2.REASON_SIGNING_KEYS_UNAVAILABLE,
                "The server has no keys yet that check JWTs, because the identity provider could "
                "not be reached. Call again later with the same JWT; the operator finds the cause "
                "in the server's log.",
                retry_after=_RETRY_AFTER,
            )
        if key_id is None:
            return _invalid("it does not name its key (`kid`), and there is not just one")
        return _invalid("it names a key (`kid`) that the provider does not have")


def _scopes(claim: object, prefix: str) -> frozenset[Scope.ValueType]:
    """Return the scopes of Ingot in a claim, which may have others, too."""
    listed = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    names = (
        each.removeprefix(prefix)
        for each in listed
        if isinstance(each, str) and each.startswith(prefix)
    )
    return frozenset(SCOPES[name] for name in names if name in SCOPES)


def _invalid(why: str) -> Failure:
    return Failure(
        reason_pb2.REASON_TOKEN_INVALID,
        f"The JWT is not accepted: {why}. Get another one from the identity provider.",
    )


def _expired() -> Failure:
    return Failure(
        reason_pb2.REASON_TOKEN_EXPIRED,
        "The token has expired. Get a new one from the identity provider.",
    )
