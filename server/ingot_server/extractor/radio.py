"""Radio over HTTP, as Icecast and SHOUTcast send it: a response that has no end.

A recording ends when it is long enough, when the station closes the connection, or when nothing
arrived for three quarters of the stall timeout. Stations first send the last seconds at once, so a
recording is cut to its length afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Final

import yt_dlp
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import RequestError

from ingot_server.extractor import formats

# A read waits for all of it, which takes a slow station half a second.
_READ_BYTES: Final = 2048
CONTAINERS: Final = ("ogg", "mp3", "m4a", "mka")
"""What a recording may be stored in. Each of the first three takes other codecs than the others."""
MARK: Final = "_ingot_radio"
"""The entry of yt-dlp's info that says that the media is radio."""
_HTTP: Final = frozenset({"http", "https"})


def is_radio(info: Mapping[str, Any], endless: Container[str]) -> bool:
    """Return whether the one selected format is one of the URLs whose response has no end."""
    parts = formats.taken(info)
    return len(parts) == 1 and parts[0].get("protocol") in _HTTP and parts[0]["url"] in endless


def receive(
    ydl: yt_dlp.YoutubeDL,
    info: Mapping[str, Any],
    path: Path,
    *,
    seconds: float,
    timeout: float,
    progress: Callable[[Mapping[str, Any]], None],
) -> int:
    """Write to `path` what the station sends in `seconds`; return the number of bytes.

    `timeout` is the stall timeout in seconds, `progress` a progress hook of yt-dlp.
    """
    [part] = formats.taken(info)
    request = Request(
        part["url"],
        headers=part.get("http_headers") or {},
        extensions={"timeout": 0.75 * timeout},
    )
    received = 0
    begun = time.monotonic()
    with ydl.urlopen(request) as response, path.open("wb") as file:
        while (passed := time.monotonic() - begun) < seconds:
            try:
                data = response.read(_READ_BYTES)
            except RequestError:
                break
            if not data:
                break
            received += file.write(data)
            share = max(passed, 0.1) / seconds
            progress(
                {
                    "status": "downloading",
                    "downloaded_bytes": received,
                    "total_bytes_estimate": received / min(1.0, share),
                    "info_dict": part,
                }
            )
    return received
