"""A page that lets its own name point to this machine reaches nothing."""

from __future__ import annotations

import pytest

from tests.integration.gateway.running_gateway import GET_MEDIA, INGEST, Api, reason, slowly

DELETE_MEDIA = "/ingot.v1.MediaService/DeleteMedia"
REBOUND = {
    "Host": "evil.example:8080",
    "Origin": "http://evil.example:8080",
    # To the browser the page and the server are one site.
    "Sec-Fetch-Site": "same-origin",
}


@pytest.mark.any_stores
async def test_a_rebound_name_reads_and_changes_nothing(api: Api) -> None:
    for method, path in (
        ("POST", INGEST),
        ("POST", DELETE_MEDIA),
        ("POST", GET_MEDIA),
        ("GET", f"{GET_MEDIA}?encoding=json&message=%7B%7D"),
        ("OPTIONS", INGEST),
        ("GET", "/"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
    ):
        body = {"mediaId": "a"} if method == "POST" else None
        async with api.http.request(method, path, json=body, headers=REBOUND) as response:
            assert response.status == 421, path
            assert reason((await response.json())["details"]) == "ORIGIN_FORBIDDEN"
    async with api.http.get("/healthz", headers=REBOUND) as response:
        assert response.status == 200


async def test_the_setting_names_the_server_for_browsers_and_proxies() -> None:
    named = {"Host": "media.example", "Origin": "https://media.example"}
    async with slowly(http_hosts="media.example") as slow:
        slow.service.released.set()
        async with slow.http.post(DELETE_MEDIA, json={"mediaId": "a"}, headers=named) as response:
            assert response.status == 200
        async with slow.http.get("/", headers=REBOUND) as response:
            assert response.status == 421


async def test_a_page_of_another_site_is_told_which_setting_lets_it_in() -> None:
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    async with slowly() as slow:
        async with slow.http.post(DELETE_MEDIA, json={"mediaId": "a"}, headers=foreign) as response:
            assert response.status == 403
            error = await response.json()
        assert reason(error["details"]) == "ORIGIN_FORBIDDEN"
        assert "INGOT_CORS_ORIGINS" in error["message"]
        assert not slow.service.began.is_set()
