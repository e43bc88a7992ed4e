"""Logging in on the web page: a cookie that only pages of this server can use."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ingot_server.access_tokens import entry, new_token
from tests.integration.gateway.running_gateway import GET_MEDIA, PAGE, Slow, slowly

pytestmark = pytest.mark.any_stores

TOKEN = new_token()
TOKENS = entry(TOKEN, "reader", ["read"], None)
SENT = {"Cookie": f"theme=dark; ingot_token={TOKEN}"}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


async def status_of_a_call(slow: Slow, headers: Mapping[str, str]) -> int:
    slow.service.released.set()
    async with slow.http.post(GET_MEDIA, json={"mediaId": "a"}, headers=headers) as response:
        return response.status


async def test_a_token_is_kept_where_no_script_reads_it() -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with slowly(tokens=TOKENS) as slow:
        async with slow.http.post("/session", headers=bearer) as response:
            assert await response.json() == {"name": "reader", "scopes": ["read"]}
            assert response.headers["Cache-Control"] == "no-store"
            cookie = response.headers["Set-Cookie"]
        secure = {**bearer, **OWN_PAGE, "Origin": f"https://{slow.address}"}
        async with slow.http.post("/session", headers=secure) as response:
            assert response.headers["Set-Cookie"] == f"{cookie}; Secure"

    assert cookie == f"ingot_token={TOKEN}; Path=/; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize(
    "authorization", ["", "Bearer wrong", "Bearer a;Domain=example", "Basic a"]
)
async def test_what_is_no_token_begins_no_session(authorization: str) -> None:
    async with (
        slowly(tokens=TOKENS) as slow,
        slow.http.post("/session", headers={"Authorization": authorization}) as response,
    ):
        assert response.status == 401
        assert "Set-Cookie" not in response.headers
        assert (await response.json())["message"]


async def test_the_page_learns_who_is_logged_in_until_that_ends() -> None:
    async with slowly(tokens=TOKENS) as slow:
        async with slow.http.get("/session", headers=SENT) as response:
            assert await response.json() == {"name": "reader", "scopes": ["read"]}
        async with slow.http.get("/session") as response:
            assert response.status == 401
        async with slow.http.delete("/session", headers=SENT) as response:
            assert response.status == 204
            assert response.headers["Set-Cookie"].startswith("ingot_token=; Max-Age=0; Path=/;")
        async with slow.http.put("/session") as response:
            assert response.status == 405
    async with slowly() as slow, slow.http.get("/session") as response:
        assert (await response.json())["name"] == ""


async def test_the_cookie_counts_in_requests_of_the_own_page_only() -> None:
    async with slowly(tokens=TOKENS, cors_origins=PAGE) as slow:
        own = {"Origin": f"http://{slow.address}"}
        assert await status_of_a_call(slow, {**SENT, **OWN_PAGE}) == 200
        assert await status_of_a_call(slow, {**SENT, **own}) == 200
        other_port = {"Origin": "http://127.0.0.1:1"}
        for headers in ({}, {"Sec-Fetch-Site": "none"}, {"Origin": PAGE}):
            assert await status_of_a_call(slow, {**SENT, **headers}) == 401, headers
        for headers in ({"Sec-Fetch-Site": "same-site"}, other_port):
            assert await status_of_a_call(slow, {**SENT, **headers}) == 403, headers
            async with slow.http.delete("/session", headers={**SENT, **headers}) as response:
                assert response.status == 403


async def test_a_header_goes_before_the_cookie() -> None:
    headers = {**SENT, **OWN_PAGE, "Authorization": "Bearer wrong"}
    async with slowly(tokens=TOKENS) as slow:
        assert await status_of_a_call(slow, headers) == 401
