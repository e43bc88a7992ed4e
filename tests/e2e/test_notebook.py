"""A notebook that works with a real server: its player gets the bytes of the media item."""

from __future__ import annotations

import asyncio
import re
import uuid
from html import unescape

import aiohttp

from ingot import Client, SyncClient
from tests.installation import Installation
from tests.origin import Origin, Page


async def test_a_notebook_shows_a_job_and_plays_its_media(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(f"/{uuid.uuid4().hex}.mp4", Page(clip))

    job = await client.ingest_video(url)
    media = await job
    shown = (await client.show(media.id))._repr_html_()

    assert 'value="1.0000"' in job._repr_html_()
    (link,) = re.findall(r'<video [^>]*src="([^"]*)"', shown)
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(unescape(link), headers={"Range": "bytes=100-199"}) as response,
    ):
        assert (response.status, await response.read()) == (206, clip[100:200])
        assert response.content_type == "video/mp4"
    assert await asyncio.to_thread(show_without_asyncio, ingot, job.id, media.id) >= {
        "succeeded",
        media.id,
    }


def show_without_asyncio(ingot: Installation, job_id: str, media_id: str) -> set[str]:
    """Return the cells of what SyncClient shows."""
    with SyncClient(ingot.grpc_address) as client:
        html = client.job(job_id)._repr_html_() + client.show(media_id)._repr_html_()
    return set(re.findall(r"<td>([^<]*)</td>", html))
