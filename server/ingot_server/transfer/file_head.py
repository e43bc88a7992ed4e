"""What a server says about a file before it sends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ingot_server.config import Settings
from ingot_server.transfer.download import check_response, empty
from ingot_server.transfer.fetch import Fetcher
from ingot_server.transfer.headers import check_start, file_name, media_type

_START_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class FileHead:
    """The head of one file. Texts are empty if its server does not say."""

    filename: str
    """For people."""
    content_type: str
    size_bytes: int | None


async def read_file_head(url: str, *, proxy_url: str, settings: Settings) -> FileHead:
    """Return what is known of the file at `url`, of which at most 1 KiB is received.

    Raises Failure as `download` does; PageResponse if the extractor may read the response.
    """
    async with (
        Fetcher(settings, proxy_url) as fetcher,
        fetcher.get(url, {}) as (final_url, response),
    ):
        host = urlsplit(final_url).hostname or ""
        await check_response(response, host, settings)
        start = await fetcher.read_body(response, at_most=_START_BYTES)
        if not start:
            raise empty(host)
        check_start(start, host)
        return FileHead(
            filename=file_name(response.headers, final_url),
            content_type=media_type(response.headers),
            size_bytes=response.content_length,
        )
