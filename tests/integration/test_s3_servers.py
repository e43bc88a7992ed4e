"""S3 servers that are late, missing, or cannot do what the catalog rests on."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.setting_values import Secret, SettingError
from tests.s3 import TYPE, S3Proxy
from tests.waiting import TIMEOUT_SECONDS
from tests.web_server import web_server


async def test_many_processes_prepare_at_once(settings: Settings) -> None:
    many = [Blobs(settings) for _ in range(4)]
    await asyncio.gather(*(each.prepare() for each in many))
    assert await many[0].list_folders("", after="", limit=10) in ([], ["probe"])
    for each in many:
        await each.close()


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match", "ETag"])
async def test_a_server_that_ignores_conditions_is_refused(settings: Settings, header: str) -> None:
    proxy = S3Proxy(settings.s3_endpoint, strip=(header,))
    async with web_server(proxy.forward) as endpoint:
        # The signature names the host, which the proxy forwards unchanged.
        blobs = Blobs(settings.replace(s3_endpoint=endpoint))
        with pytest.raises(Failure) as raised:
            await blobs.prepare()
        assert raised.value.reason == reason_pb2.REASON_STORAGE_UNAVAILABLE
        assert "conditional writes" in raised.value.message
        await blobs.close()


async def test_a_server_that_comes_late_is_waited_for(settings: Settings) -> None:
    proxy = S3Proxy(settings.s3_endpoint, down=6)
    async with web_server(proxy.forward) as endpoint:
        blobs = Blobs(settings.replace(s3_endpoint=endpoint))
        await blobs.prepare(wait_at_most=timedelta(seconds=TIMEOUT_SECONDS))
        assert await blobs.put("a", b"1", content_type=TYPE)
        await blobs.close()


async def test_a_server_that_is_not_there_is_named(settings: Settings) -> None:
    blobs = Blobs(settings.replace(s3_endpoint="127.0.0.1:1"))
    with pytest.raises(Failure) as raised:
        await blobs.prepare(wait_at_most=timedelta(0))
    assert raised.value.reason == reason_pb2.REASON_STORAGE_UNAVAILABLE
    assert "127.0.0.1:1 cannot be reached" in raised.value.message
    assert "Connection refused" in raised.value.message
    with pytest.raises(Failure) as raised:
        await blobs.put("secret-name", b"1", content_type=TYPE)
    assert "Signature" not in raised.value.message
    await blobs.close()


async def test_wrong_keys_are_reported_at_once(settings: Settings) -> None:
    blobs = Blobs(settings.replace(s3_secret_key=Secret("wrong-wrong-wrong")))
    with pytest.raises(Failure, match=r"INGOT_S3_SECRET_KEY|Allow these keys"):
        # Who waited would wait until the test is over.
        await blobs.prepare(wait_at_most=timedelta(hours=1))
    await blobs.close()


@pytest.mark.parametrize(
    "changes",
    [{"s3_bucket": "No Bucket"}, {"s3_endpoint": "a/b/c"}, {"s3_public_endpoint": "https://a/b"}],
)
def test_a_setting_no_server_can_have_is_named(changes: dict[str, str]) -> None:
    with pytest.raises(SettingError, match=f"INGOT_{next(iter(changes)).upper()}="):
        Blobs(Settings().replace(**changes))
