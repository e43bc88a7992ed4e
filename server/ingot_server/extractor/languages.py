"""What sources call languages: tags, codes of three letters, and names. Runs in the child."""

from __future__ import annotations

import locale
import re
from typing import Final

from yt_dlp.utils import ISO639Utils

_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_WORD: Final = re.compile(r"[^\W\d_]+")
# Shorter ones are codes themselves.
_NAME_LETTERS: Final = 4
_NO_LANGUAGES: Final = frozenset({"cextend", "posix", "univ", "universal"})


def language_tag(label: str) -> str:
    """What a source calls a language as a tag of BCP 47; empty: it cannot be told.

    `pt_BR` is `pt-BR`. `eng` is `en`, by yt-dlp's table of ISO 639-2/T. A label that begins with
    a name that Python's `locale` knows is of that language: `English`, `English (CC)`, `Deutsch`.
    """
    word = _WORD.match(label)
    name = word[0].lower() if word else ""
    if len(name) >= _NAME_LETTERS and name not in _NO_LANGUAGES:
        alias = locale.locale_alias.get(name)
        if alias is not None:
            return alias.partition("_")[0]
    if not _TAG.fullmatch(label):
        return ""
    first, *rest = label.replace("_", "-").split("-")
    return "-".join([ISO639Utils.long2short(first.lower()) or first, *rest])
