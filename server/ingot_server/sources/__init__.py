"""The sources that media comes from, one module for each. All of them are pure."""

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
"""All sources. The first that accepts a URL has it, so general sources come last."""


def pick(url: str, *, playlist: bool = False) -> tuple[Source, Identity]:
    """Return the source that accepts `url`, and what the URL names there. No I/O.

    With `playlist` that is the list that the URL names or is part of, if its source has lists.

    Raises Failure: INVALID_REQUEST if the URL is malformed, UNSUPPORTED_URL if no source accepts
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
        f"No source accepts `{scheme}:` URLs. Use a URL that begins with http:// or https://.",
        violations={"url": f"has the scheme `{scheme}`; only http and https are accepted"},
    )
