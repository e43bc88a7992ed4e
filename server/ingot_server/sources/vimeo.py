"""Vimeo: videos by their number, in every form of their link."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from ingot_server.sources.http import normalise
from ingot_server.sources.source import FetchMethod, Identity

_HOSTS: Final = frozenset({"vimeo.com", "www.vimeo.com", "player.vimeo.com"})
_PATH: Final = re.compile(r"/(?:video/)?(\d{1,12})")


class VimeoSource:
    """Accepts the URLs of public videos on Vimeo, which never change."""

    name: Final = "vimeo"
    fetch_method: Final = FetchMethod.EXTRACTOR
    accepts: Final = ("https://vimeo.com/<number>",)
    required_setting: Final = None
    mutable: Final = False
    has_own_ids: Final = True
    in_bucket: Final = False
    has_public_host: Final = True
    throttled_by_host: Final = False
    uses_extractor: Final = True
    is_manifest: Final = False
    may_be_list: Final = False
    may_be_live: Final = False
    has_selections: Final = True
    offers_audio_only: Final = True
    has_side_files: Final = True

    def identify(self, url: str) -> Identity | None:
        normalised = normalise(url)
        if normalised is None:
            return None
        parts = urlsplit(normalised)
        path = _PATH.fullmatch(parts.path)
        if parts.hostname not in _HOSTS or path is None:
            return None
        page_url = f"https://vimeo.com/{path[1]}"
        return Identity(self.name, f"vimeo:{path[1]}", page_url, page_url)
