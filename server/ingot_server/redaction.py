"""Secrets are cut out of texts that others read: error messages, names of jobs and logs.

Messages quote URLs, of a page, of one of its segments or of a proxy, and texts of other programs
that quote some. A URL can have a password, or be signed: who has such a URL can use it. So the
values of what looks like a secret are replaced by `***`, and the rest stays, because it says which
URL it was.
"""

from __future__ import annotations

import re
from typing import Final

_CUT: Final = "***"
_USER: Final = re.compile(r"(?<=://)[^/?#\s\"'<>]*@")
# Of a query, also of one that is the value of another one's parameter (%3F, %26, %3D).
_PARAMETER: Final = re.compile(
    r"((?:[?&;]|%3F|%26)"
    r"(?:[\w.-]*(?:signature|token|secret|passw(?:or)?d|credential|api[_-]?key|session)[\w.-]*"
    r"|l?sig|sign|auth|authorization|key|jwt|pwd|policy|hdn(?:ea|ts|tl))"
    r"(?:=|%3D))"
    r"(?:(?!%26)[^&;#\s\"'<>])+",
    re.IGNORECASE,
)
# With a digit, which a word of a sentence does not have.
_BEARER: Final = re.compile(r"\b(Bearer|Basic) +(?=\S*\d)[\w.~+/=-]{8,}")
# https://core.telegram.org/bots/api#making-requests
_BOT: Final = re.compile(r"/bot\d+:[\w-]+")


def redact(text: str) -> str:
    """Return `text` with `***` in the place of passwords, tokens and signatures."""
    if "://" in text:
        text = _USER.sub(f"{_CUT}@", text)
    if "=" in text or "%3" in text:
        text = _PARAMETER.sub(rf"\1{_CUT}", text)
    text = _BEARER.sub(rf"\1 {_CUT}", text)
    return _BOT.sub(f"/bot{_CUT}", text)
