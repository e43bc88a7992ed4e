"""A call that takes longer than the setting is logged, over gRPC and over Connect."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from ingot.v1.media_service_pb2 import DownloadRequest, GetMediaRequest
from ingot_server.config import Settings
from ingot_server.log_events import Event
from tests.integration.api.running_api import serving
from tests.integration.gateway.running_gateway import (
    CONNECT_JSON,
    DOWNLOAD,
    GET_MEDIA,
    frame,
    framed,
    slowly,
)

# Every call takes longer.
SLOW = timedelta(microseconds=1)

pytestmark = pytest.mark.any_stores


def slow_calls(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        vars(record)["fields"]["method"]
        for record in caplog.records
        if getattr(record, "event", None) is Event.CALL_SLOW
    ]


async def test_over_grpc(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(settings.replace(slow_call=SLOW)) as api:
        media = await api.store()
        async for _ in api.media.Download(DownloadRequest(media_id=media.id)):
            pass
        await api.media.GetMedia(GetMediaRequest(media_id=media.id))
        with pytest.raises(grpc.aio.AioRpcError):
            await api.media.GetMedia(GetMediaRequest(url="http://127.0.0.1/other.mp4"))

    assert slow_calls(caplog) == ["MediaService/GetMedia"] * 2


async def test_over_connect(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with slowly(redis_url=settings.redis_url, slow_call=SLOW) as slow:
        slow.service.released.set()
        async with slow.http.post(GET_MEDIA, json={"mediaId": "a"}) as response:
            assert response.status == 200
        request = framed(b'{"mediaId":"a"}')
        async with slow.http.post(DOWNLOAD, data=request, headers=CONNECT_JSON) as response:
            await frame(response)

    assert slow_calls(caplog) == ["MediaService/GetMedia"]
