"""What to do with a URL whose server sends a page or a manifest instead of a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.transfer.content import ManifestResponse
from ingot_server.transfer.headers import PageResponse

NO_MEDIA: Final = frozenset({reason_pb2.REASON_UNSUPPORTED_URL, reason_pb2.REASON_NOT_MEDIA})
"""Reasons of an extraction that found nothing."""

NO_MANIFEST: Final = NO_MEDIA | {reason_pb2.REASON_EXTRACTION_FAILED}
"""Reasons of an extraction of what may not be a manifest, in spite of its name."""

_Result = TypeVar("_Result")


async def fetch_misnamed(failure: Failure, fetch: Callable[[], Awaitable[_Result]]) -> _Result:
    """Return the result of `fetch`, for a file that has the name of a manifest.

    Raises Failure: `failure`, that of its extraction, if it is not a file either.
    """
    try:
        return await fetch()
    except Failure as other:
        if other.reason == reason_pb2.REASON_NOT_MEDIA:
            raise failure from other
        raise


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
