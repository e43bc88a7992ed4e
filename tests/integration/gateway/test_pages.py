"""What pages of browsers may send, and what they reach."""

from __future__ import annotations

import asyncio

import pytest

from ingot_server.config import Settings
from ingot_server.setting_values import SettingError
from tests.integration.gateway.running_gateway import GET_MEDIA, PAGE, gateway_of, slowly


async def test_pages_of_other_origins_are_let_in_by_the_setting() -> None:
    preflight = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,connect-protocol-version",
    }
    call = {"Origin": PAGE}
    async with slowly(cors_origins=f"https://other.example, {PAGE}") as slow:
        slow.service.released.set()
        async with slow.http.options(GET_MEDIA, headers=preflight) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
            assert "Connect-Protocol-Version" in response.headers["Access-Control-Allow-Headers"]
        for body in ({"mediaId": "a"}, {}):
            async with slow.http.post(GET_MEDIA, json=body, headers=call) as response:
                assert response.headers["Access-Control-Allow-Origin"] == PAGE
                assert "Origin" in response.headers.getall("Vary")[-1]
                exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
                assert exposed == ["grpc-status", "grpc-message", "grpc-status-details-bin"]
        async with slow.http.post(
            GET_MEDIA, json={}, headers={"Origin": "https://else.example"}
        ) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
    async with (
        slowly() as slow,
        slow.http.options(GET_MEDIA, headers=preflight) as response,
    ):
        assert not [name for name in response.headers if name.startswith("Access-Control")]
    async with (
        slowly(cors_origins="*") as slow,
        slow.http.options(GET_MEDIA, headers=preflight) as r,
    ):
        assert r.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("origins", ["example.com", "https://example.com/", "http://a b.example"])
def test_origins_that_are_none_are_refused(origins: str) -> None:
    with pytest.raises(SettingError, match="cors_origins"):
        gateway_of([], Settings(cors_origins=origins))


async def test_what_a_page_may_send_unasked_reaches_no_service() -> None:
    async with slowly() as slow:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            headers = {"Content-Type": content_type}
            for origin, status in ((f"http://{slow.address}", 415), (PAGE, 403)):
                async with slow.http.post(
                    GET_MEDIA, data=b'{"mediaId":"a"}', headers={**headers, "Origin": origin}
                ) as response:
                    assert response.status == status
        assert not slow.service.began.is_set()


async def test_nothing_else_is_served(caplog: pytest.LogCaptureFixture) -> None:
    grpc_type = {"Content-Type": "application/grpc", "TE": "trailers"}
    async with slowly() as slow:
        for method, path, headers, status in (
            ("GET", "/nothing", {}, 404),
            ("POST", "/ingot.v1.MediaService/Nothing", {}, 404),
            ("GET", "/ingot.v1.MediaService/DeleteMedia", {}, 405),
            ("PUT", GET_MEDIA, {}, 405),
            ("POST", "/healthz", {}, 405),
            ("POST", GET_MEDIA, grpc_type, 415),
            ("POST", GET_MEDIA, {"Upgrade": "websocket", "Connection": "upgrade"}, 415),
        ):
            async with slow.http.request(method, path, headers=headers) as response:
                assert response.status == status, (method, path)
        reader, writer = await asyncio.open_connection(*slow.address.split(":"))
        writer.write(
            f"POST {GET_MEDIA} HTTP/1.1\r\nHost: localhost\r\nX-Odd: \xff\r\n\r\n".encode("latin-1")
        )
        assert b" 400 " in await reader.readline()
        writer.close()
    assert not caplog.records
