"""The ids of uploads as they are stored: each caller with a name has ids of its own.

    <upload id>             of a caller without a name
    <upload id>~<digest>    of the caller whose name has this digest

The digest is the first 16 hexadecimal digits of the SHA-256 of the name. The contract allows no `~`
in the ids that callers choose, so nobody can write the stored id of another caller's upload.
"""

from __future__ import annotations

import hashlib
from typing import Final

_OWNER: Final = "~"
_DIGEST_CHARACTERS: Final = 16


def stored_upload_id(upload_id: str, caller: str) -> str:
    """Return the stored id of the upload that a caller with this name, or none, calls so."""
    if not caller:
        return upload_id
    return upload_id + _OWNER + hashlib.sha256(caller.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def sent_upload_id(stored: str) -> str:
    """Return what the caller of an upload calls it."""
    return stored.partition(_OWNER)[0]


def is_own_upload(stored: str, caller: str) -> bool:
    """Return whether an upload belongs to the caller with this name, or to none without one."""
    return stored == stored_upload_id(sent_upload_id(stored), caller)
