"""What to do with a URL whose server sends a page or a manifest instead of a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.transfer.headers import ManifestResponse, PageResponse

NO_MEDIA: Final = frozenset({reason_pb2.REASON_UNSUPPORTED_URL, reason_pb2.REASON_NOT_MEDIA})
"""Reasons of an extraction that found nothing."""

_Result = TypeVar("_Result")


async def extract_page(
    page: PageResponse, host: str, extract: Callable[[bool], Awaitable[_Result]]
) -> _Result:
    """Return the result of `extract`, which gets whether `page` is a manifest.

    Raises Failure: `page` itself if it says more than the extraction.
    """
    is_manifest = isinstance(page, ManifestResponse)
    try:
        return await extract(is_manifest)
    except Failure as failure:
        # A manifest exists. If the files that it names do not, the media was not removed.
        is_hollow = is_manifest and failure.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST
        if failure.reason not in NO_MEDIA and not is_hollow:
            raise
        if page.reason != reason_pb2.REASON_NOT_MEDIA:
            raise page from failure
        raise Failure(
            reason_pb2.REASON_NOT_MEDIA,
            f"{host} sends a page, and no audio or video was found in it. "
            "Use the URL of the media file itself.",
            metadata=page.metadata,
        ) from failure
