"""The extractor's info dict as JSON, without secrets, in the extraction child.

Left out is what a request was made with, which is not what the source said: headers, cookies, keys
of encrypted segments, user names and passwords in URLs. If the source was asked with the operator's
cookies or a plug-in, the URLs of media may act for an account: their queries are left out, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yt_dlp

from ingot_server.extractor.presentation import TRACK
from ingot_server.extractor.side_file_messages import missing, side_file

LARGEST_BYTES: Final = 8 << 20

_SECRETS: Final = frozenset(
    {
        *("http_headers", "cookies", "hls_aes", "request_data", "downloader_options"),
        *("extra_param_to_segment_url", "extra_param_to_key_url", TRACK),
    }
)
_MEDIA_URLS: Final = frozenset({"url", "manifest_url", "fragment_base_url"})
_USER: Final = re.compile(r"(?i)(\bhttps?://)[^/?#\s]*@")
# What is left out of a file that is too large, one after the other.
_LARGE: Final = ("automatic_captions", "formats", "comments", "heatmap")


def write_info(
    info: Mapping[str, Any], directory: str, *, is_identified: bool
) -> Iterator[dict[str, Any]]:
    """Write the info dict into `directory`, and yield its message.

    `is_identified`: the source may know for which account it was asked.
    """
    content = raw_info(info, is_identified=is_identified)
    if content is None:
        yield missing(f"info: more than {LARGEST_BYTES} bytes")
        return
    path = Path(directory, "info.json")
    path.write_bytes(content)
    yield side_file(path, "INFO", "application/json")


def raw_info(info: Mapping[str, Any], *, is_identified: bool) -> bytes | None:
    """Return the info dict as JSON of at most LARGEST_BYTES; None if that is not possible.

    Its field `omitted` names the large fields that were left out for that.
    """
    known = yt_dlp.YoutubeDL.sanitize_info(dict(info), remove_private_keys=True)
    found = _without_secrets(known, is_identified=is_identified)
    omitted: list[str] = []
    for name in ("", *_LARGE):
        if found.pop(name, None) is not None:
            omitted.append(name)
        document = {**found, "omitted": omitted} if omitted else found
        content = json.dumps(document, ensure_ascii=False).encode(errors="replace")
        if len(content) <= LARGEST_BYTES:
            return content
    return None


def _without_secrets(value: Any, *, is_identified: bool, name: str = "") -> Any:
    if isinstance(value, dict):
        return {
            key: _without_secrets(each, is_identified=is_identified, name=str(key))
            for key, each in value.items()
            if key not in _SECRETS
        }
    if isinstance(value, list):
        return [_without_secrets(each, is_identified=is_identified, name=name) for each in value]
    if not isinstance(value, str):
        return value
    text = _USER.sub(r"\1", value)
    return text.partition("?")[0] if is_identified and name in _MEDIA_URLS else text
