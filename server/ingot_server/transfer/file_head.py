"""What a server says about a file before it sends it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ingot_server.config import Settings
from ingot_server.transfer.content import is_contradicted, kind_of
from ingot_server.transfer.download import announced_size, check_status, open_body
from ingot_server.transfer.fetch import Fetcher, broken_off
from ingot_server.transfer.headers import file_name, media_type
from ingot_server.transfer.response_body import BROKEN, ResponseBody


@dataclass(frozen=True, slots=True)
class FileHead:
    """The head of one file. Texts are empty if its server does not say."""

    filename: str
    """For people."""
    content_type: str
    size_bytes: int | None


async def read_file_head(url: str, *, proxy_url: str, settings: Settings) -> FileHead:
    """Return what is known of the file at `url`, of which only the beginning is received.

    Raises Failure as `download` does; PageResponse if the extractor may read the response.
    """
    async with (
        Fetcher(settings, proxy_url, tries_as_browser=True) as fetcher,
        fetcher.get(url, {}) as (final_url, response),
    ):
        host = urlsplit(final_url).hostname or ""
        byte_range = check_status(response, host)
        body = ResponseBody(response, host)
        try:
            await open_body(response, body, host, settings)
        except (*BROKEN, EOFError) as exc:
            raise broken_off(host) from exc
        content_type = media_type(response.headers)
        if is_contradicted(kind_of(await body.start()), content_type):
            content_type = ""
        return FileHead(
            filename=file_name(response.headers, final_url),
            content_type=content_type,
            size_bytes=None if body.is_coded else announced_size(response, byte_range),
        )
