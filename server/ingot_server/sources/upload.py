"""The source of uploads: files that callers send. Their identity is their content.

upload:<sha256>       key and URL of the media item whose content has this SHA-256
upload:<upload id>    URL of the job that ingests an upload
"""

from __future__ import annotations

import re
from typing import Final

from ingot_server.sources.source import FetchMethod, Identity, SourceDefaults

SCHEME: Final = "upload:"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class UploadSource(SourceDefaults):
    """Accepts `upload:` URLs. The content behind one never changes."""

    name: Final = "upload"
    fetch_method: Final = FetchMethod.UPLOAD
    accepts: Final = ("upload:<sha256>",)
    in_bucket = True

    def identify(self, url: str) -> Identity | None:
        name = url.strip().removeprefix(SCHEME)
        if name == url.strip() or not _UPLOAD_ID.fullmatch(name):
            return None
        key = content_key(name) if _SHA256.fullmatch(name) else upload_key(name)
        return Identity(self.name, key, upload_url(name), upload_url(name))


def content_key(sha256: str) -> str:
    """Return the source key of the content with this SHA-256."""
    return SCHEME + sha256


def upload_key(upload_id: str) -> str:
    """Return what is used as source key while the content of an upload is not known."""
    return f"upload-id:{upload_id}"


def upload_url(upload_id: str) -> str:
    """Return the URL of the job that ingests the upload `upload_id`."""
    return SCHEME + upload_id
