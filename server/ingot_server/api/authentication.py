"""Who calls, and whether the caller may: the one check of every call on every transport.

The credential of a call is its header `Authorization: Bearer TOKEN` (RFC 6750), which is the
metadata `authorization` on gRPC. TOKEN is one that the settings name, or a JWT. Without one,
the certificate of a client may count. Without settings that name credentials, the server does not
ask who calls, and every caller may do everything.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingot.v1 import reason_pb2
from ingot.v1.scope_pb2 import Scope
from ingot_server.access_tokens import AccessToken, AccessTokens
from ingot_server.api.call_rates import CallRates
from ingot_server.api.caller import Caller
from ingot_server.api.client_certificates import ClientCertificates
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.caller_limits import CallerLimits
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.setting_values import CacheSharing, SettingError

if TYPE_CHECKING:
    from ingot_server.api.json_web_tokens import JsonWebTokens

_JWT_DOTS: Final = 2
_SCOPES: Final = {"metrics": Scope.SCOPE_ADMIN}
# Connections whose caller is kept, about 1 KiB each.
_KNOWN: Final = 4096


@dataclass(frozen=True, slots=True)
class _Known:
    """A caller, which is valid as long as its token is."""

    caller: Caller
    token: AccessToken


class Authentication:
    """Callers by their credentials, and the count of their calls, if there are `rates`.

    `_known` maps the peer of a connection and a hash of what it sends as `authorization` to the
    caller that has sent it before. Raises SettingError if the settings cannot be used.
    """

    def __init__(self, settings: Settings, rates: CallRates | None = None) -> None:
        self._settings = settings
        self._rates = rates
        self._tokens = AccessTokens(settings)
        self._jwts = _json_web_tokens(settings)
        self.certificates = ClientCertificates(settings)
        """What callers with a certificate may do."""
        self.required = self._tokens.configured or self._jwts is not None
        """Whether a call needs a token or a JWT."""
        self._limits = CallerLimits.of(settings)
        self._local_limits = self._limits.on_this_machine()
        self._known: dict[tuple[str, bytes], _Known] = {}
        self._open = frozenset(settings.open_services.replace(",", " ").split())

    async def keep_current(self) -> None:
        """Follow changes of the credentials. Never ends if they can change."""
        following = [self._tokens.keep_current()]
        if self._jwts is not None:
            following.append(self._jwts.keep_current())
        await gather_or_cancel(following)

    async def admit_to(
        self, service: str, peer: str, authorization: str, certificate: str = ""
    ) -> None:
        """Let a call of `health`, `reflection` or `metrics` pass if that is open.

        Otherwise the caller has to be known, and needs the scope of GetSystem for `metrics`.
        Raises Failure as `admit` does.
        """
        if service not in self._open:
            await self.admit(_SCOPES.get(service), peer, authorization, certificate)

    async def admit(
        self,
        scope: Scope.ValueType | None,
        peer: str,
        authorization: str,
        certificate: str = "",
    ) -> Caller:
        """Return the caller of a call that needs `scope`; None means that it needs none.

        `peer` is the address as in Caller, `authorization` the value of that header, or empty.
        `certificate` is the name in the caller's certificate, or empty if it is not known.
        Raises Failure UNAUTHENTICATED, TOKEN_INVALID or TOKEN_EXPIRED if it is not known who calls,
        SIGNING_KEYS_UNAVAILABLE if that cannot be known yet, SCOPE_MISSING if the caller may not
        make the call, and QUOTA_EXCEEDED if it has made too many.
        """
        certified = certificate and not authorization and self.certificates.replace_tokens
        if self.required and not certified:
            # Not a hash of OpenSSL, which looks it up each time for longer than it hashes.
            sent = peer, hashlib.blake2b(authorization.encode(), digest_size=32).digest()
            known = self._known.get(sent)
            if known is not None and self._tokens.is_valid(known.token):
                caller = known.caller
            else:
                caller = await self._caller(peer, _bearer_token(authorization), sent)
        else:
            if self.certificates.required and not certificate and not peer.startswith("unix:"):
                # It could not be told from others, and would cancel jobs for them.
                raise Failure(
                    reason_pb2.REASON_UNAUTHENTICATED,
                    "The certificate does not say whose it is. Use one with a DNS name, a URI or a "
                    "common name.",
                )
            caller = self._named(peer, certificate, self.certificates.scopes, self._limits)
            if not certificate and caller.is_local:
                caller = dataclasses.replace(caller, limits=self._local_limits)
        if scope is not None:
            caller.require(scope)
        if self._rates is not None:
            await self._rates.count(caller)
        return caller

    async def count(self, peer: str) -> None:
        """Count a request that has no credential. Raises Failure QUOTA_EXCEEDED."""
        if self._rates is not None:
            caller = Caller(peer, limits=self._limits)
            if caller.is_local:
                caller = dataclasses.replace(caller, limits=self._local_limits)
            await self._rates.count(caller)

    def owner(self, name: str, peer: str, scopes: frozenset[Scope.ValueType]) -> Caller:
        """Return the caller that a subscription makes jobs for, or a feed is read for.

        `peer` and `scopes` are those of the call that created it. Raises Failure TOKEN_INVALID if
        no credential can prove that name any more.
        """
        limits = self._limits
        if tokens := self._tokens.named(name):
            scopes &= frozenset().union(*(token.scopes for token in tokens))
            limits = tokens[-1].limits
        elif name and self._tokens.configured and not self._accepts_other_names:
            raise Failure(
                reason_pb2.REASON_TOKEN_INVALID,
                f"{name} has no token that is valid now, so nothing is fetched for its "
                "subscriptions. Give it a token, or have an administrator delete them.",
            )
        caller = self._named(peer, name, scopes, limits)
        if not name and caller.is_local:
            return dataclasses.replace(caller, limits=self._local_limits)
        return caller

    @property
    def _accepts_other_names(self) -> bool:
        return self._jwts is not None or self.certificates.replace_tokens

    async def _caller(self, peer: str, token: str, sent: tuple[str, bytes]) -> Caller:
        """Return whose token it is, and keep that as what was `sent`. Raises Failure."""
        found = self._tokens.find(token)
        if found is None and self._jwts is not None and token.count(".") == _JWT_DOTS:
            verified = await self._jwts.verify(token)
            return self._named(peer, verified.name, verified.scopes, self._limits)
        if found is None:
            raise Failure(
                reason_pb2.REASON_TOKEN_INVALID,
                "The token is not one that this server knows. Use another one, or ask the operator "
                "for one.",
            )
        if found.expires <= time.time():
            raise Failure(
                reason_pb2.REASON_TOKEN_EXPIRED,
                "The token has expired. Ask the operator for a new one.",
            )
        caller = self._named(peer, found.name, found.scopes, found.limits)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[sent] = _Known(caller, found)
        return caller

    def _named(
        self, peer: str, name: str, scopes: frozenset[Scope.ValueType], limits: CallerLimits
    ) -> Caller:
        if not name and self._settings.cache_sharing is CacheSharing.PRIVATE:
            # It would have to see either nothing or what belongs to everyone.
            raise Failure(
                reason_pb2.REASON_UNAUTHENTICATED,
                "Each caller of this server has media of its own (INGOT_CACHE_SHARING=private), so "
                "a caller needs a name. Send a token or a JWT, or use a certificate with a name.",
            )
        tenant = self._settings.cache_sharing.tenant_of(name)
        return Caller(peer, name, scopes, limits, tenant)


def _bearer_token(authorization: str) -> str:
    """Return the token in the header. Raises Failure UNAUTHENTICATED if it has none."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Failure(
            reason_pb2.REASON_UNAUTHENTICATED,
            "This server asks who calls. Send a token as the header `authorization: Bearer TOKEN`.",
        )
    return token.strip()


def _json_web_tokens(settings: Settings) -> JsonWebTokens | None:
    """Return what checks JWTs by the settings; None if they name no keys.

    Raises SettingError if only a part is set, or if it cannot be used.
    """
    if settings.jwks_url and settings.jwt_issuer and settings.jwt_audience:
        # Imported here: cryptography takes 10 MiB, and a tenth of a second of the start.
        from ingot_server.api.json_web_tokens import JsonWebTokens

        return JsonWebTokens(settings)
    if settings.jwks_url or settings.jwt_issuer or settings.jwt_audience:
        raise SettingError(
            "INGOT_JWKS_URL, INGOT_JWT_ISSUER and INGOT_JWT_AUDIENCE belong together: without "
            "issuer and audience, tokens for other services would count. Set all three, or none."
        )
    return None
