"""Decides whether the id that an extractor gives a media item can be trusted as its identity.

A page can claim any extractor and any id. So an id counts only if the page is one that the
extractor itself accepts. An extractor that accepts the pages of many owners (software that anyone
can run) has ids that are unique only on their host: one owner could choose another one's id.

It imports yt-dlp, so it runs in the extraction child.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import yt_dlp

from ingot_server.extractor.info import page_of

_UNKNOWN_HOST: Final = "host.invalid"
# A name and its top-level domain in the pattern of an extractor's URLs, `example\.com`, and not the
# name of a page.
_NAMED_HOST: Final = re.compile(
    r"([a-z0-9-]+)\\\.(?!php|aspx?|html?)[a-z]{2,}(?![a-z0-9-]|\\\.)", re.IGNORECASE
)
# One owner may have so many, such as a network of broadcasters.
_NAMES_OF_ONE_OWNER: Final = 4
# It accepts other front ends of YouTube, and always asks YouTube.
_OF_ONE_OWNER: Final = frozenset({"Youtube"})


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
    anywhere = extractor.suitable(parts._replace(netloc=_UNKNOWN_HOST).geturl())
    if anywhere or _has_several_owners(extractor):
        return f"{parts.netloc.lower()}/{found}"
    return found


def _has_several_owners(extractor: Any) -> bool:
    """Return whether the URLs of an extractor are on the hosts of different owners."""
    if extractor.ie_key() in _OF_ONE_OWNER:
        return False
    pattern = extractor._VALID_URL or ()  # noqa: SLF001 - the interface of extractors
    patterns = [pattern] if isinstance(pattern, str) else pattern
    names = {name.lower() for each in patterns for name in _NAMED_HOST.findall(each)}
    return len(names) > _NAMES_OF_ONE_OWNER
