"""The name of a job for people: what its request says at first, then the title from the source."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from ingot_server.redaction import redact

LONGEST_NAME: Final = 200
_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"
# What such a path ends with names a page, not a file.
_PAGES: Final = frozenset({"", "asp", "aspx", "cgi", "htm", "html", "jsp", "php", "xhtml"})


def shortened(text: str) -> str:
    """Return `text` on one line of at most LONGEST_NAME characters; an ellipsis says it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - len(_CUT)] + _CUT


def name_of_url(url: str) -> str:
    """Return a URL in a readable form: its file name, else its host, path and query.

    Secrets in it are cut.
    """
    url = redact(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return shortened(url)
    name = unquote(parts.path.rpartition("/")[2])
    stem, _, extension = name.rpartition(".")
    if stem and extension.lower() not in _PAGES:
        return shortened(name)
    if not parts.netloc:
        return shortened(url)
    query = f"?{parts.query}" if parts.query else ""
    place = parts.netloc.removeprefix("www.") + parts.path.rstrip("/") + query
    return shortened(unquote(place))
