"""The forms of ids, to tell one kind from another and both from a URL.

They serve messages alone: whether an id is known, only the server decides.
"""

from __future__ import annotations

import re
from typing import Final

_MEDIA_ID: Final = re.compile(r"[a-z2-7]{52}")
_JOB_ID: Final = re.compile(r"[0-9a-v]{26}|cached-.+")


def is_media_id(text: str) -> bool:
    """Return whether `text` has the form of the id of a media item: 52 characters of base32."""
    return _MEDIA_ID.fullmatch(text) is not None


def is_job_id(text: str) -> bool:
    """Return whether `text` has the form of the id of a job: 26 characters of base32hex.

    The id of a job that was answered from what is stored begins with `cached-` instead.
    """
    return _JOB_ID.fullmatch(text) is not None
