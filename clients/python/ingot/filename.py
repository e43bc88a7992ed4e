"""Names for files whose user gave none: a media's title, as far as it makes a safe name.

And the path that an option named, as far as that can be told before there is a media.
"""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from ingot.download import destination
from ingot.v1.media_pb2 import Blob, Media

# Common file systems take 255 bytes; what is left is for ` (2)`, an extension and `.part`.
LONGEST_BYTES: Final = 200
_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')
# Names of devices on Windows, with any extension.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def check_output(output: str) -> None:
    """Raises OSError when no file can be put there: before an hour of work is, not after."""
    path = Path(output)
    directory = path if path.is_dir() or output.endswith(os.sep) else path.parent
    if not directory.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
    if path != directory:
        directory = destination(path).parent
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


def place(output: str, media: Media, blob: Blob) -> tuple[Path, bool]:
    """Where `blob`, a file of `media`, is put; whether it is there already.

    That is the path that was named, or a free one in the directory that was.
    """
    path = Path(output)
    if not path.is_dir():
        return path, False
    path = free_path(path, media, blob)
    return path, path.exists()


def file_name(media: Media, blob: Blob | None = None) -> str:
    """The title as the name of a file in some directory; the media's id where none is left of it.

    `blob` is which of the files of `media`, if not its own.

    No title can lead out of the directory, hide the file, or be taken for an option of a program.
    """
    title = unicodedata.normalize("NFC", media.title)
    title = "".join(each if each.isprintable() else " " for each in title)
    title = " ".join(_FORBIDDEN.sub("_", title).split()).strip(". ").lstrip("-. ")
    title = title.encode()[:LONGEST_BYTES].decode(errors="ignore").rstrip(". ")
    if not title or _DEVICE.match(title):
        title = f"{title}_{media.id}".lstrip("_")
    if blob is None or blob.url == media.blob.url:
        return title + PurePosixPath(urlsplit(media.blob.url).path).suffix
    return title + (mimetypes.guess_extension(blob.content_type) or "")


def free_path(directory: Path, media: Media, blob: Blob | None = None) -> Path:
    """Where a file of `media` may be put in `directory`; it is there already if that exists.

    Raises OSError when what is there cannot be looked at.
    """
    blob = blob or media.blob
    name = Path(file_name(media, blob))
    path, number = directory / name, 1
    while os.path.lexists(path) and not _is_same(path, blob):
        number += 1
        path = directory / f"{name.stem} ({number}){name.suffix}"
    return path


def _is_same(path: Path, blob: Blob) -> bool:
    """Whether a file is `blob`."""
    if not path.is_file() or path.stat().st_size != blob.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == blob.sha256
