"""Directories that no other user can change, also where everyone may make some, as in /tmp.

A name there that can be guessed may be taken by another user first: with a directory in which that
user replaces files, or with a link to files that are not ours to remove.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class UnsafeDirectory(Exception):
    """Another user can change what is in a directory; the message says why and what to do."""


def make_private_directory(path: Path) -> None:
    """Create a directory of mode 0700, with its parents, unless it exists.

    Raises OSError, and UnsafeDirectory as `check_private` does.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(path)


def check_private(path: Path) -> None:
    """Raise UnsafeDirectory if a user other than this one and root can change what `path` names.

    Raises OSError if it does not exist.
    """
    owner = path.lstat().st_uid
    if not _is_trusted(owner):
        raise UnsafeDirectory(_belongs(path, owner))
    # A link of a trusted user leads where that user wants it to.
    found = path.stat()
    if not _is_trusted(found.st_uid):
        raise UnsafeDirectory(_belongs(path, found.st_uid))
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise UnsafeDirectory(
            f"{path} can be written to by other users (mode {stat.S_IMODE(found.st_mode):04o}). "
            "Name a directory in it that does not exist yet, or take that permission away: "
            f"`chmod go-w {path}`."
        )


def _is_trusted(owner: int) -> bool:
    return owner in {os.getuid(), 0}


def _belongs(path: Path, owner: int) -> str:
    return (
        f"{path} belongs to another user (uid {owner}), who can replace what is in it. Name a "
        "directory of this user, or one that does not exist yet."
    )
