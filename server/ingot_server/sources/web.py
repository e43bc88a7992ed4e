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

from ingot_server.sources.http import normalise
from ingot_server.sources.source import FetchMethod, Identity

NAME: Final = "web"
_MANIFEST: Final = re.compile(r".*\.(?:m3u8|mpd)", re.IGNORECASE | re.DOTALL)
# Extractors whose ids do not identify anything: a file name, or a counter within a page.
_WITHOUT_IDENTITY: Final = frozenset({"", "generic", "html5mediaembed"})


class WebSource:
    """Accepts the URLs of HLS and DASH manifests. The content behind one may change."""

    name: Final = NAME
    fetch_method: Final = FetchMethod.EXTRACTOR
    accepts: Final = ("https://<host>/<path>.m3u8", "https://<host>/<path>.mpd")
    required_setting: Final = None
    mutable: Final = True
    has_own_ids: Final = False
    in_bucket: Final = False
    has_public_host: Final = True
    throttled_by_host: Final = True
    uses_extractor: Final = True
    is_manifest: Final = True
    may_be_list: Final = True
    may_be_live: Final = True
    has_selections: Final = True
    offers_audio_only: Final = True
    has_side_files: Final = True

    def identify(self, url: str) -> Identity | None:
        normalised = normalise(url)
        if normalised is None or not _MANIFEST.fullmatch(urlsplit(normalised).path):
            return None
        return Identity(self.name, f"{self.name}:{normalised}", normalised, normalised)


def extracted(extractor: str, extractor_id: str, page_url: str) -> Identity | None:
    """Return the identity made of an extractor's name and id, or None if these identify nothing."""
    name = extractor.lower()
    if name in _WITHOUT_IDENTITY or not extractor_id or not page_url:
        return None
    return Identity(NAME, f"{name}:{extractor_id}", page_url, page_url)
