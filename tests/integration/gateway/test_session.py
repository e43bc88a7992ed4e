"""Logging in on the web page: a cookie that only pages of this server can use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from ingot_server.access_tokens import entry, new_token
from ingot_server.api.stored_sessions import MOST_SESSIONS, StoredSessions
from ingot_server.config import Settings
from ingot_server.redis import connect
from tests.integration.gateway.running_gateway import GET_MEDIA, PAGE, Slow, slowly

pytestmark = pytest.mark.any_stores

TOKEN = new_token()
TOKENS = entry(TOKEN, "reader", ["read"], None)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
HOUR = timedelta(hours=1)


@asynccontextmanager
async def asking(settings: Settings, **changes: Any) -> AsyncIterator[Slow]:
    """A server that asks who calls."""
    stores = {"redis_url": settings.redis_url, "redis_prefix": settings.redis_prefix}
    async with slowly(**{"tokens": TOKENS, **stores, **changes}) as slow:
        yield slow


async def logged_in(slow: Slow) -> dict[str, str]:
    """The header with the cookie of a new session."""
    async with slow.http.post("/session", headers=BEARER) as response:
        assert await response.json() == {"name": "reader", "scopes": ["read"]}
        assert response.headers["Cache-Control"] == "no-store"
        cookie, _, attributes = response.headers["Set-Cookie"].partition("; ")
    assert attributes == "Path=/; HttpOnly; SameSite=Strict"
    assert TOKEN not in cookie
    return {"Cookie": f"theme=dark; {cookie}"}


async def status_of_a_call(slow: Slow, headers: Mapping[str, str]) -> int:
    slow.service.released.set()
    async with slow.http.post(GET_MEDIA, json={"mediaId": "a"}, headers=headers) as response:
        return response.status


async def status_of_a_session(slow: Slow, headers: Mapping[str, str]) -> int:
    async with slow.http.get("/session", headers=headers) as response:
        return response.status


async def test_a_session_is_kept_where_no_script_reads_it(settings: Settings) -> None:
    async with asking(settings) as slow:
        await logged_in(slow)
        secure = {**BEARER, **OWN_PAGE, "Origin": f"https://{slow.address}"}
        async with slow.http.post("/session", headers=secure) as response:
            assert response.headers["Set-Cookie"].endswith("; SameSite=Strict; Secure")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer wrong", "Bearer a;Domain=example", "Basic a"]
)
async def test_what_is_no_token_begins_no_session(authorization: str, settings: Settings) -> None:
    async with (
        asking(settings) as slow,
        slow.http.post("/session", headers={"Authorization": authorization}) as response,
    ):
        assert response.status == 401
        assert "Set-Cookie" not in response.headers
        assert (await response.json())["message"]


async def test_a_session_counts_at_every_server_until_it_ends(settings: Settings) -> None:
    async with asking(settings) as slow, asking(settings) as other:
        session, second = await logged_in(slow), await logged_in(slow)
        for each in (slow, other):
            async with each.http.get("/session", headers=session) as response:
                assert await response.json() == {"name": "reader", "scopes": ["read"]}
            assert await status_of_a_call(each, {**session, **OWN_PAGE}) == 200
            assert await status_of_a_session(each, {}) == 401

        async with slow.http.delete("/session", headers=session) as response:
            assert response.status == 204
            cleared = response.headers["Set-Cookie"]
            assert cleared.startswith("ingot_session=; Max-Age=0; Path=/;")

        # Whoever has copied the cookie has nothing.
        for each in (slow, other):
            assert await status_of_a_session(each, session) == 401
            assert await status_of_a_call(each, {**session, **OWN_PAGE}) == 401
            assert await status_of_a_session(each, second) == 200
        async with slow.http.put("/session") as response:
            assert response.status == 405
    # A server that does not know the token does not accept its sessions either.
    async with asking(settings, tokens=entry(new_token(), "reader", ["read"], None)) as slow:
        assert await status_of_a_session(slow, second) == 401
    async with slowly() as slow, slow.http.get("/session") as response:
        assert (await response.json())["name"] == ""


async def test_redis_has_neither_tokens_nor_cookies_and_forgets_sessions(
    settings: Settings,
) -> None:
    redis = connect(settings)
    stored = StoredSessions(redis, HOUR)
    secrets = [await stored.begin("reader", TOKEN) for _ in range(MOST_SESSIONS + 2)]
    found = [await stored.token(secret) for secret in secrets]
    keys = [key async for key in redis.scan_iter(redis.key("page-session*"))]
    content = b"".join([await redis.dump(key) or b"" for key in keys])
    lifetimes = [await redis.pttl(key) for key in keys]
    # What another program has written is no session.
    for key in keys:
        if await redis.type(key) == b"string":
            await redis.set(key, b"forged")
    forged = await stored.token(secrets[-1])
    await redis.aclose()

    assert found == ["", "", *[TOKEN] * MOST_SESSIONS]
    assert len(keys) == MOST_SESSIONS + 1
    assert all(0 < each <= HOUR.total_seconds() * 1000 for each in lifetimes)
    for secret in (TOKEN, *secrets):
        assert secret.encode() not in content + b"".join(keys)
    assert forged == ""


async def test_the_cookie_counts_in_requests_of_the_own_page_only(settings: Settings) -> None:
    async with asking(settings, cors_origins=PAGE) as slow:
        session = await logged_in(slow)
        own = {"Origin": f"http://{slow.address}"}
        assert await status_of_a_call(slow, {**session, **OWN_PAGE}) == 200
        assert await status_of_a_call(slow, {**session, **own}) == 200
        other_port = {"Origin": "http://127.0.0.1:1"}
        for headers in ({}, {"Sec-Fetch-Site": "none"}, {"Origin": PAGE}):
            assert await status_of_a_call(slow, {**session, **headers}) == 401, headers
        for headers in ({"Sec-Fetch-Site": "same-site"}, other_port):
            assert await status_of_a_call(slow, {**session, **headers}) == 403, headers
            async with slow.http.delete("/session", headers={**session, **headers}) as response:
                assert response.status == 403


async def test_a_header_goes_before_the_cookie(settings: Settings) -> None:
    async with asking(settings) as slow:
        headers = {**await logged_in(slow), **OWN_PAGE, "Authorization": "Bearer wrong"}
        assert await status_of_a_call(slow, headers) == 401


async def test_without_redis_a_session_may_be_asked_for_again(settings: Settings) -> None:
    async with asking(settings) as slow:
        session = await logged_in(slow)
    async with asking(settings, redis_url="unix:///nonexistent/redis.sock") as slow:
        assert await status_of_a_session(slow, session) == 503
        assert await status_of_a_call(slow, {**session, **OWN_PAGE}) == 503
        assert await status_of_a_call(slow, BEARER) == 200
