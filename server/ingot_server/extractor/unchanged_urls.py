"""Makes yt-dlp request URLs as they are written: servers compare them with what they have signed.

yt-dlp, requests and urllib3 each encode a few characters that every server accepts (`|`), or decode
some that need no encoding (`%7E`). It runs in the extraction child.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import requests.models
import requests.sessions
import urllib3.util.url
import yt_dlp.networking._requests
import yt_dlp.networking._urllib
import yt_dlp.networking.common

_SENDABLE: Final = re.compile(r"[\x21-\x7e]*")
_DOT_SEGMENT: Final = re.compile(r"/\.\.?(?:[/?#]|$)")


def keep_urls() -> None:
    """Have URLs of visible ASCII characters sent as they are; all others are encoded as before."""
    for module in (
        yt_dlp.networking.common,
        yt_dlp.networking._requests,  # noqa: SLF001 - there is no hook
        yt_dlp.networking._urllib,  # noqa: SLF001
    ):
        _keep(module, "normalize_url")
    _keep(requests.models, "requote_uri")
    _keep(requests.sessions, "requote_uri")
    _keep(urllib3.util.url, "_encode_invalid_chars")


def _keep(module: Any, name: str) -> None:
    encode: Callable[..., str | None] = getattr(module, name)

    def kept(text: str | None, *args: Any) -> str | None:
        if text is None or (_SENDABLE.fullmatch(text) and not _DOT_SEGMENT.search(text)):
            return text
        return encode(text, *args)

    setattr(module, name, kept)
