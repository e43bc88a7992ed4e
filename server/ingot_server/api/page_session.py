"""The session of the web page: a token in a cookie that no script can read.

    POST /session       with `Authorization: Bearer TOKEN`: keeps the token in the cookie
    GET /session        who is logged in, as JSON: `name` and `scopes`; 401 without a session
    DELETE /session     forgets the token

The cookie has the token itself, so a session ends when the token does, and every server knows it.
A browser sends the cookie with every request to this host, whichever page has made it. Therefore it
is a credential only in requests by a page of this server.
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
from ingot_server.api.connect_errors import refuse, refuse_caller
from ingot_server.api.request_origin import RequestOrigins
from ingot_server.errors import Failure

PATH: Final = "/session"

_COOKIE: Final = "ingot_token"
_FOUND: Final = re.compile(rf"(?:^|;)\s*{_COOKIE}=([^;\s]+)")
# RFC 6750, section 2.1; a browser keeps no cookie of more than 4096 bytes.
_STORABLE: Final = re.compile(r"Bearer [A-Za-z0-9._~+/=-]{1,3800}", re.IGNORECASE)
_ATTRIBUTES: Final = "Path=/; HttpOnly; SameSite=Strict"
_METHODS: Final = ("GET", "POST", "DELETE")


class Sessions:
    """The credentials of requests over HTTP, and the requests that begin and end a session."""

    def __init__(self, authentication: Authentication, origins: RequestOrigins) -> None:
        self._authentication = authentication
        self._origins = origins

    def credential(self, scope: Any) -> str:
        """Return what authenticates a request, as the value of a header Authorization, or empty."""
        if sent := call_head.authorization(scope):
            return sent
        token = _cookie(scope)
        return f"Bearer {token}" if token and self._origins.is_of_own_page(scope) else ""

    async def serve(self, scope: Any, send: Any) -> None:
        """Respond to a request for PATH."""
        verb = scope["method"]
        if verb not in _METHODS:
            failure = Failure(
                reason_pb2.REASON_UNSUPPORTED_CALL, f"Use {', '.join(_METHODS)} for {PATH}."
            )
            await refuse(send, HTTPStatus.METHOD_NOT_ALLOWED, failure)
        elif refusal := self._origins.foreign(scope):
            await refuse(send, refusal.status, refusal.failure)
        elif verb == "DELETE":
            await _respond(send, cookie=f"{_COOKIE}=; Max-Age=0; {_ATTRIBUTES}")
        elif verb == "POST":
            await self._begin(scope, send)
        else:
            # Other pages cannot read the response. So the cookie counts without a check of the
            # origin, which browsers do not send with a GET over plain HTTP.
            token = _cookie(scope)
            authorization = call_head.authorization(scope) or (token and f"Bearer {token}")
            await self._describe(scope, authorization, send)

    async def _begin(self, scope: Any, send: Any) -> None:
        authorization = call_head.authorization(scope)
        if not _STORABLE.fullmatch(authorization):
            failure = Failure(
                reason_pb2.REASON_UNAUTHENTICATED,
                "Send a token of at most 3800 letters, digits and `._~+/=-` as the header "
                "`authorization: Bearer TOKEN`.",
            )
            await refuse_caller(send, failure)
            return
        token = authorization.partition(" ")[2]
        secure = "; Secure" if _is_https(scope) else ""
        cookie = f"{_COOKIE}={token}; {_ATTRIBUTES}{secure}"
        await self._describe(scope, authorization, send, cookie=cookie)

    async def _describe(
        self, scope: Any, authorization: str, send: Any, *, cookie: str = ""
    ) -> None:
        try:
            peer = call_head.peer(scope)
            caller = await self._authentication.admit(None, peer, authorization)
        except Failure as failure:
            await refuse_caller(send, failure)
            return
        scopes = [name for name, scope in SCOPES.items() if scope in caller.scopes]
        await _respond(send, {"name": caller.name, "scopes": scopes}, cookie=cookie)


def _cookie(scope: Any) -> str:
    sent = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    found = _FOUND.search(sent.decode("latin-1"))
    return found[1] if found else ""


def _is_https(scope: Any) -> bool:
    """Return whether the browser speaks HTTPS, with this server or with a proxy before it."""
    origin = dict(scope["headers"]).get(b"origin", b"")
    return scope.get("scheme") == "https" or bool(origin.startswith(b"https://"))


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
