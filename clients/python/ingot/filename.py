"""Where a downloaded file goes: the path of an option, or a safe name made from a title."""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from ingot.download import resolve_destination
from ingot.v1.media_pb2 import Blob, Media

# Common file systems allow 255 bytes. The rest is for ` (2)`, an extension and `.part`.
LONGEST_BYTES: Final = 200
_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')
# Windows has devices with these names, with any extension.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """The file that a download writes. `complete` means that the same file is already there."""

    path: Path
    complete: bool


def check_output(output: str) -> None:
    """Check that a file can be written to `output`, before a job starts.

    Raises OSError if it cannot.
    """
    path = Path(output)
    directory = path if path.is_dir() or output.endswith(os.sep) else path.parent
    if not directory.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
    if path != directory:
        directory = resolve_destination(path).parent
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


def find_output(output: str, media: Media, blob: Blob) -> OutputFile:
    """Return the file for `blob`, one of the files of `media`.

    This is `output` itself, or a file in it if it is a directory.
    """
    path = Path(output)
    if not path.is_dir():
        return OutputFile(path, complete=False)
    path = free_path(path, media, blob)
    return OutputFile(path, complete=path.exists())


def file_name(media: Media, blob: Blob | None = None) -> str:
    """Make the name of a file from the title of `media`, or from its id if that leaves nothing.

    `blob` is the file if it is not the blob of the media item itself. The name cannot lead out of a
    directory, hide the file, or look like an option of a program.
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
    """Return a path in `directory` for a file of `media`, where no other file is.

    If the path exists, it is the same file. Raises OSError if an existing file cannot be read.
    """
    blob = blob or media.blob
    name = Path(file_name(media, blob))
    path, number = directory / name, 1
    while os.path.lexists(path) and not _has_content(path, blob):
        number += 1
        path = directory / f"{name.stem} ({number}){name.suffix}"
    return path


def _has_content(path: Path, blob: Blob) -> bool:
    """Return whether the file at `path` has the content of `blob`."""
    if not path.is_file() or path.stat().st_size != blob.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == blob.sha256
