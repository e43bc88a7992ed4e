"""Ranges of a file over HTTP, requested through yt-dlp (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError

from ingot_server.extractor.presentation import Incomplete
from ingot_server.section.remote_file import FIRST_BYTES, RemoteFile

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_ATTEMPTS: Final = 4


class FileRanges:
    """The ranges of one file, appended to a file on the disk as they arrive."""

    def __init__(
        self,
        ydl: Any,
        info: Mapping[str, Any],
        path: str,
        progress: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """`info` is a format of yt-dlp, `progress` a progress hook."""
        self._ydl = ydl
        self._info = info
        self._path = Path(path)
        self._progress = progress
        self._received = 0
        self._version: tuple[int, str, str] | None = None

    def open(self) -> RemoteFile | None:
        """Return the file; None if its server sends no ranges of it."""
        try:
            content = self._request(0, FIRST_BYTES)
        except HTTPError:
            return None
        if content is None or self._version is None:
            return None
        self._append(content)
        file = RemoteFile(str(self._path), self._version[0], self._fetch)
        file.has_first(len(content))
        return file

    def _fetch(self, begin: int, end: int) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                content = self._request(begin, end)
            except (IncompleteRead, TransportError):
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            if content is None or len(content) != end - begin:
                raise Incomplete(
                    "The file was changed at its source, or its server stopped sending ranges of it"
                )
            self._append(content)
            return

    def _request(self, begin: int, end: int) -> bytes | None:
        """Return a range, the end of the file included; None if it is not of the same file."""
        headers = {
            **(self._info.get("http_headers") or {}),
            "Range": f"bytes={begin}-{end - 1}",
            "Accept-Encoding": "identity",
        }
        with self._ydl.urlopen(Request(self._info["url"], headers=headers)) as response:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            if response.status != 206 or found is None or int(found[1]) != begin:
                return None
            version = (
                int(found[3]),
                response.headers.get("ETag", ""),
                response.headers.get("Last-Modified", ""),
            )
            if self._version is not None and version != self._version:
                return None
            self._version = version
            content: bytes = response.read(end - begin)
            while len(content) < min(end, version[0]) - begin and (more := response.read()):
                content += more
            return content

    def _append(self, content: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(content)
        self._received += len(content)
        self._progress(
            {
                "status": "downloading",
                "info_dict": self._info,
                "downloaded_bytes": self._received,
            }
        )
