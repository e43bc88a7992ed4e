"""Names for files whose user gave none: a media's title, as far as it makes a safe name."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from ingot.v1.media_pb2 import Media

# Common file systems take 255 bytes; what is left is for ` (2)`, an extension and `.part`.
LONGEST_BYTES: Final = 200
_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')
# Names of devices on Windows, with any extension.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def file_name(media: Media) -> str:
    """The title as the name of a file in some directory; the media's id where none is left of it.

    No title can lead out of the directory, hide the file, or be taken for an option of a program.
    """
    title = unicodedata.normalize("NFC", media.title)
    title = "".join(each if each.isprintable() else " " for each in title)
    title = " ".join(_FORBIDDEN.sub("_", title).split()).strip(". ").lstrip("-. ")
    title = title.encode()[:LONGEST_BYTES].decode(errors="ignore").rstrip(". ")
    if not title or _DEVICE.match(title):
        title = f"{title}_{media.id}".lstrip("_")
    return title + PurePosixPath(urlsplit(media.blob.url).path).suffix


def free_path(directory: Path, media: Media) -> Path:
    """Where the file of `media` may be put in `directory`; it is there already if that exists.

    Raises OSError when what is there cannot be looked at.
    """
    name = Path(file_name(media))
    path, number = directory / name, 1
    while os.path.lexists(path) and not _is_same(path, media):
        number += 1
        path = directory / f"{name.stem} ({number}){name.suffix}"
    return path


def _is_same(path: Path, media: Media) -> bool:
    """Whether a file is that of `media`."""
    if not path.is_file() or path.stat().st_size != media.blob.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == media.blob.sha256
