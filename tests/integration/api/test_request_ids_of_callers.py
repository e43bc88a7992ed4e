"""The request ids of callers with names are their own."""

from __future__ import annotations

from ingot.v1.ingest_service_pb2 import CreateUploadUrlRequest, IngestRequest
from ingot_server.access_tokens import entry, new_token
from ingot_server.config import Settings
from tests.integration.api.running_api import URL, Api, serving
from tests.refusals import refused


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def job_id(api: Api, token: str, url: str) -> str:
    request = IngestRequest(request_id="r", url=url)
    return str((await api.ingest.Ingest(request, metadata=bearer(token))).job.id)


async def upload_id(api: Api, token: str) -> str:
    request = CreateUploadUrlRequest(
        request_id="u",
        filename="a.mp4",
        content_type="video/mp4",
        size_bytes=1000,
        sha256=bytes(32).hex(),
        part_size_bytes=1000,
    )
    return str((await api.ingest.CreateUploadUrl(request, metadata=bearer(token))).upload_id)


async def test_two_callers_may_use_the_same_request_id(settings: Settings) -> None:
    one, same, other = (new_token() for _ in range(3))
    scopes = ["read", "ingest"]
    tokens = [
        entry(one, "news/recorder", scopes, None),
        entry(same, "news/recorder", scopes, None),
        entry(other, "archive", scopes, None),
    ]
    async with serving(settings.replace(tokens="".join(tokens))) as api:
        first = await job_id(api, one, URL)
        second = await job_id(api, other, URL + "?other")
        assert first != second
        # A token that replaces another one is the same caller.
        assert await job_id(api, same, URL) == first
        assert await job_id(api, other, URL + "?other") == second
        request = IngestRequest(request_id="r", url=URL + "?third")
        found = await refused(api.ingest.Ingest(request, metadata=bearer(one)))
        assert found.reason == "REQUEST_ID_REUSED"
        assert "request id r was used" in found.message

        uploads = [await upload_id(api, token) for token in (one, other, same)]
        assert uploads[0] == uploads[2] != uploads[1]
