"""Where media come from, one module a source."""

from __future__ import annotations

from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources.http import HttpSource
from ingot_server.sources.internal import InternalSource
from ingot_server.sources.source import Identity, ListSource, PreflightSource, Source
from ingot_server.sources.telegram import TelegramFileSource, TelegramSource
from ingot_server.sources.upload import UploadSource
from ingot_server.sources.web import WebSource
from ingot_server.sources.youtube import YouTubeSource

__all__ = ["SOURCES", "Identity", "ListSource", "PreflightSource", "Source", "pick"]

SOURCES: Final[tuple[Source, ...]] = (
    YouTubeSource(),
    TelegramSource(),
    TelegramFileSource(),
    InternalSource(),
    UploadSource(),
    WebSource(),
    HttpSource(),
)
"""All sources; the first that takes a URL has it, so the particular stand before the general."""


def pick(url: str, *, playlist: bool = False) -> tuple[Source, Identity]:
    """The source that takes `url`, and what the URL names there. No I/O.

    With `playlist` the list that it names or is inside of, where it is one of a source that has
    lists.

    Raises Failure: INVALID_REQUEST for a URL that is broken, UNSUPPORTED_URL when no source takes
    it.
    """
    for source in SOURCES:
        if playlist and isinstance(source, ListSource):
            identity = source.identify_list(url)
        else:
            identity = source.identify(url)
        if identity is not None:
            return source, identity
    scheme = url.strip().partition(":")[0].lower()
    raise Failure(
        reason_pb2.REASON_UNSUPPORTED_URL,
        f"No source takes `{scheme}:` URLs. Use a URL that begins with http:// or https://.",
        violations={"url": f"has the scheme `{scheme}`; only http and https are taken"},
    )
