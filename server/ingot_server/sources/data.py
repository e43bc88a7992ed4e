"""`data:` URLs (RFC 2397): the media itself is in the URL. Its identity is its content."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

from ingot_server.sources.source import FetchMethod, Identity

_DATA: Final = re.compile(r"data:(?:audio|video)/[\w.+-]+;base64,([A-Za-z0-9+/=]+)")


class DataSource:
    """Accepts audio and video in base64; the content behind a URL never changes."""

    name: Final = "data"
    fetch_method: Final = FetchMethod.INLINE
    accepts: Final = ("data:<type>;base64,<data>",)
    required_setting: Final = None
    mutable: Final = False
    has_own_ids: Final = True
    in_bucket: Final = False
    has_public_host: Final = False
    throttled_by_host: Final = False
    uses_extractor: Final = False
    is_manifest: Final = False
    may_be_list: Final = False
    may_be_live: Final = False
    has_selections: Final = False
    offers_audio_only: Final = False
    has_side_files: Final = False

    def identify(self, url: str) -> Identity | None:
        content = inline_content(url)
        if content is None:
            return None
        key = f"data:{hashlib.sha256(content).hexdigest()}"
        return Identity(self.name, key, url, url)


def inline_content(url: str) -> bytes | None:
    """Return the bytes in a `data:` URL; None if it is not one of audio or video in base64."""
    match = _DATA.fullmatch(url)
    try:
        return base64.b64decode(match[1], validate=True) if match else None
    except binascii.Error:
        return None
