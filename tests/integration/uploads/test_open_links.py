"""What links for uploads let a caller store is bounded."""

from __future__ import annotations

from datetime import timedelta

import grpc

from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.library.upload_parts import linked_name
from ingot_server.library.uploads import FOLDER
from ingot_server.redis import connect
from tests.integration.uploads.browser import put
from tests.integration.uploads.upload_servers import UploadServers, clip, running_servers
from tests.refusals import refused


async def test_open_links_of_a_caller_are_counted_until_their_upload_is_complete(
    settings: Settings,
) -> None:
    content = clip()
    few = settings.replace(upload_links_per_caller=2, http_address="")
    async with running_servers(few) as servers:
        begun = await servers.link(content)
        second = await servers.part_link(begun.upload_id, 5, 10)
        refusal = await refused(servers.part_link(begun.upload_id, 6, 10))
        assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.reason == "TOO_MANY_UPLOAD_LINKS"
        assert "INGOT_UPLOAD_LINKS_PER_CALLER" in refusal.message
        assert (await refused(servers.link(clip(seed=2)))).reason == "TOO_MANY_UPLOAD_LINKS"
        # A link for the same part is the same link.
        assert (await servers.part_link(begun.upload_id, 5, 10)).url
        assert second.url

        assert await put(begun.url, content) == 200
        await servers.complete(begun.upload_id)
        assert (await servers.link(clip(seed=2))).url
        assert (await servers.link(clip(seed=3))).url


async def test_expired_links_and_those_of_others_do_not_count(settings: Settings) -> None:
    async with connect(settings) as redis:
        links, hour = Records(redis, settings).open_links, timedelta(hours=1)
        for offset in range(3):
            await links.add("one", "upload", offset, 1, lifetime=timedelta(0), most=1)
        await links.add("one", "upload", 3, 1, lifetime=hour, most=1)
        await links.add("other", "upload", 4, 1, lifetime=hour, most=1)
        await links.close("one", "another upload")
        await links.close("one", "upload")
        await links.add("one", "upload", 5, 1, lifetime=hour, most=1)


async def test_a_part_of_another_size_is_removed_when_the_upload_is_completed(
    servers: UploadServers,
) -> None:
    content = clip()
    begun = await servers.link(content)
    [header] = await servers.left()
    folder = header.removesuffix("header.json")
    assert folder.startswith(FOLDER)
    # As a server without keys, which checks no signature, takes it.
    name = folder + linked_name(0, len(content))
    await servers.blobs.put(name, content + b"more", content_type="video/mp4")
    refusal = await refused(servers.complete(begun.upload_id))
    assert refusal.reason == "UPLOAD_OFFSET_MISMATCH"
    assert await servers.left() == [header]
