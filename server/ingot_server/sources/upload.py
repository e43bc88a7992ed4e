"""The source of uploads: files that callers send. Their identity is their content.

upload:<sha256>          key and URL of the media item whose content has this SHA-256
upload-id:<upload id>    key and URL of an upload that a job ingests, until its content is known;
                         the id is the stored one (library/upload_ids.py)
"""

from __future__ import annotations

import re
from typing import Final

from ingot_server.sources.source import FetchMethod, Identity, SourceDefaults

_CONTENT: Final = "upload:"
_UPLOAD: Final = "upload-id:"
_URL: Final = re.compile(
    rf"{_CONTENT}[A-Za-z0-9._-]{{1,64}}|{_UPLOAD}[A-Za-z0-9._-]{{1,64}}(?:~[0-9a-f]{{16}})?"
)


class UploadSource(SourceDefaults):
    """Accepts the URLs of uploads. The content behind one never changes."""

    name: Final = "upload"
    fetch_method: Final = FetchMethod.UPLOAD
    accepts: Final = ("upload:<sha256>",)
    in_bucket = True

    def identify(self, url: str) -> Identity | None:
        url = url.strip()
        return _identity(url) if _URL.fullmatch(url) else None


def content_identity(sha256: str) -> Identity:
    """Return the identity of the media item whose content has this SHA-256."""
    return _identity(_CONTENT + sha256)


def upload_url(upload_id: str) -> str:
    """Return the URL of the job that ingests the upload with the stored id `upload_id`."""
    return _UPLOAD + upload_id


def upload_id_of(url: str) -> str:
    """Return the stored id of the upload that the URL of a job names; empty for any other URL."""
    return url.removeprefix(_UPLOAD) if url.startswith(_UPLOAD) else ""


def _identity(url: str) -> Identity:
    return Identity(UploadSource.name, url, url, url)
