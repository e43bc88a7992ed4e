"""Which media an extraction found: what its extractor calls it, where that can be believed.

A page may name any extractor and id, and show what it likes. So an extractor's id counts only on
pages that are the extractor's own; and one that takes pages of every host, as those of software
that anybody can run, has ids that count on their host alone.

Imports yt-dlp: it runs in the extraction child.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import yt_dlp

from ingot_server.extractor.info import page_of

_NOBODY: Final = "host.invalid"


def identity(ydl: yt_dlp.YoutubeDL, info: Mapping[str, Any]) -> str:
    """The id of what was found, or `host/id`; empty when it has none that holds."""
    page = page_of(info)
    try:
        extractor = ydl.get_info_extractor(str(info.get("extractor_key")))
    except KeyError:
        return ""
    found = str(info.get("id") or "")
    if not found or not extractor.suitable(page):
        return ""
    parts = urlsplit(page)
    if extractor.suitable(parts._replace(netloc=_NOBODY).geturl()):
        return f"{parts.netloc.lower()}/{found}"
    return found
