"""The source of the web: what yt-dlp finds behind a URL that is not that of a file.

    web:<normalised url>     an HLS or DASH manifest, recognised by its extension
    <extractor>:<id>         what an extractor of yt-dlp calls a media item: `vimeo:76979871`

This module does not know which pages yt-dlp supports: there are 1,750 extractors, and they change
with each release. A page has an `http` identity until the response shows that it is a page. Then
the extraction gives it a better identity.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from ingot_server.sources.http import identity
from ingot_server.sources.source import FetchMethod, Identity, SourceDefaults

NAME: Final = "web"
_MANIFEST: Final = re.compile(r".*\.(?:m3u8|mpd)", re.IGNORECASE | re.DOTALL)
# Extractors whose ids do not identify anything: a file name, or a counter within a page.
_WITHOUT_IDENTITY: Final = frozenset({"", "generic", "html5mediaembed"})


class WebSource(SourceDefaults):
    """Accepts the URLs of HLS and DASH manifests. The content behind one may change."""

    name: Final = NAME
    fetch_method: Final = FetchMethod.EXTRACTOR
    accepts: Final = ("https://<host>/<path>.m3u8", "https://<host>/<path>.mpd")
    mutable = True
    has_own_ids = False
    has_public_host = True
    throttled_by_host = True
    uses_extractor = True
    is_manifest = True
    may_be_list = True
    may_be_live = True
    has_selections = True
    offers_audio_only = True
    has_side_files = True

    def identify(self, url: str) -> Identity | None:
        found = identity(self.name, url)
        if found is None or not _MANIFEST.fullmatch(urlsplit(found.url).path):
            return None
        return found


def extracted(extractor: str, extractor_id: str, page_url: str) -> Identity | None:
    """Return the identity made of an extractor's name and id, or None if these identify nothing."""
    name = extractor.lower()
    if name in _WITHOUT_IDENTITY or not extractor_id or not page_url:
        return None
    return Identity(NAME, f"{name}:{extractor_id}", page_url, page_url)
