"""The login of the web page: a session in a cookie that no script can read.

    POST /session       with `Authorization: Bearer TOKEN`: begins a session with that token
    GET /session        who is logged in, as JSON: `name` and `scopes`; 401 without a session
    DELETE /session     ends the session

The cookie names the session, whose token stays on the server (stored_sessions.py). The token is
checked in each request, so a session also ends when the token does. A browser sends the cookie with
every request to this host, whichever page has made it. Therefore it is a credential only in
requests by a page of this server.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot_server.access_tokens import SCOPES
from ingot_server.api import call_head
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import Caller
from ingot_server.api.connect_errors import refuse, refuse_caller
from ingot_server.api.request_origin import RequestOrigins
from ingot_server.api.stored_sessions import StoredSessions
from ingot_server.errors import Failure

PATH: Final = "/session"

_COOKIE: Final = "ingot_session"
_FOUND: Final = re.compile(rf"(?:^|;)\s*{_COOKIE}=([A-Za-z0-9_-]{{43}})(?=[;\s]|$)")
# RFC 6750, section 2.1.
_STORABLE: Final = re.compile(r"Bearer [A-Za-z0-9._~+/=-]{1,8192}", re.IGNORECASE)
_ATTRIBUTES: Final = "Path=/; HttpOnly; SameSite=Strict"
_METHODS: Final = ("GET", "POST", "DELETE")


class Sessions:
    """The credentials of requests over HTTP, and the requests that begin and end a session."""

    def __init__(
        self, authentication: Authentication, origins: RequestOrigins, stored: StoredSessions
    ) -> None:
        self._authentication = authentication
        self._origins = origins
        self._stored = stored

    async def credential(self, scope: Any) -> str:
        """Return what authenticates a request, as the value of a header Authorization, or empty.

        Raises Failure CACHE_UNAVAILABLE.
        """
        if sent := call_head.authorization(scope):
            return sent
        return await self._of_cookie(scope) if self._origins.is_of_own_page(scope) else ""

    async def serve(self, scope: Any, send: Any) -> None:
        """Respond to a request for PATH."""
        verb = scope["method"]
        if verb not in _METHODS:
            failure = Failure(
                reason_pb2.REASON_UNSUPPORTED_CALL, f"Use {', '.join(_METHODS)} for {PATH}."
            )
            await refuse(send, HTTPStatus.METHOD_NOT_ALLOWED, failure)
            return
        if refusal := self._origins.foreign(scope):
            await refuse(send, refusal.status, refusal.failure)
            return
        try:
            if verb == "POST":
                await self._begin(scope, send)
            elif verb == "DELETE":
                await self._end(scope, send)
            else:
                # Other pages cannot read the response. So the cookie counts without a check of the
                # origin, which browsers do not send with a GET over plain HTTP.
                authorization = call_head.authorization(scope) or await self._of_cookie(scope)
                await _describe(await self._caller(scope, authorization), send)
        except Failure as failure:
            await refuse_caller(send, failure)

    async def _begin(self, scope: Any, send: Any) -> None:
        authorization = call_head.authorization(scope)
        if not _STORABLE.fullmatch(authorization):
            raise Failure(
                reason_pb2.REASON_UNAUTHENTICATED,
                "Send a token of at most 8192 letters, digits and `._~+/=-` as the header "
                "`authorization: Bearer TOKEN`.",
            )
        caller = await self._caller(scope, authorization)
        secret = await self._stored.begin(caller.key, authorization.partition(" ")[2])
        secure = "; Secure" if _is_https(scope) else ""
        await _describe(caller, send, cookie=f"{_COOKIE}={secret}; {_ATTRIBUTES}{secure}")

    async def _end(self, scope: Any, send: Any) -> None:
        if secret := _secret(scope):
            await self._stored.end(secret)
        await _respond(send, cookie=f"{_COOKIE}=; Max-Age=0; {_ATTRIBUTES}")

    async def _caller(self, scope: Any, authorization: str) -> Caller:
        return await self._authentication.admit(
            None, call_head.peer(scope), authorization, call_head.certificate(scope)
        )

    async def _of_cookie(self, scope: Any) -> str:
        secret = _secret(scope)
        token = await self._stored.token(secret) if secret else ""
        return f"Bearer {token}" if token else ""


def _secret(scope: Any) -> str:
    sent = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    found = _FOUND.search(sent.decode("latin-1"))
    return found[1] if found else ""


def _is_https(scope: Any) -> bool:
    """Return whether the browser speaks HTTPS, with this server or with a proxy before it."""
    origin = dict(scope["headers"]).get(b"origin", b"")
    return scope.get("scheme") == "https" or bool(origin.startswith(b"https://"))


async def _describe(caller: Caller, send: Any, *, cookie: str = "") -> None:
    scopes = [name for name, scope in SCOPES.items() if scope in caller.scopes]
    await _respond(send, {"name": caller.name, "scopes": scopes}, cookie=cookie)


async def _respond(send: Any, content: dict[str, Any] | None = None, *, cookie: str = "") -> None:
    body = b"" if content is None else json.dumps(content).encode()
    headers = [(b"cache-control", b"no-store")]
    if content is not None:
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
    if cookie:
        headers.append((b"set-cookie", cookie.encode()))
    status = HTTPStatus.OK if content is not None else HTTPStatus.NO_CONTENT
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
