"""Decides whether the id that an extractor gives a media item can be trusted as its identity.

A page can claim any extractor and any id. So an id counts only if the page is one that the
extractor itself accepts. An extractor that accepts pages of every host (software that anyone can
run) has ids that are unique only on their host.

It imports yt-dlp, so it runs in the extraction child.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import yt_dlp

from ingot_server.extractor.info import page_of

_UNKNOWN_HOST: Final = "host.invalid"


def identity(ydl: yt_dlp.YoutubeDL, info: Mapping[str, Any]) -> str:
    """Return the trusted id, or `host/id`; empty if there is none."""
    page = page_of(info)
    try:
        extractor = ydl.get_info_extractor(str(info.get("extractor_key")))
    except KeyError:
        return ""
    found = str(info.get("id") or "")
    if not found or not extractor.suitable(page):
        return ""
    parts = urlsplit(page)
    if extractor.suitable(parts._replace(netloc=_UNKNOWN_HOST).geturl()):
        return f"{parts.netloc.lower()}/{found}"
    return found
