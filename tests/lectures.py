"""Lectures on a Mediasite server, and pages around them, as yt-dlp's own extractor reads them.

A stand-in: a university's server is any host with these paths, so yt-dlp's extractor takes this
one for real. Only the answers' shapes are Mediasite's.
"""

from __future__ import annotations

import json
from typing import Any

from tests.origin import Origin, Page

LECTURE = "2db6c271681e4f199af3c60d1f82869b1d"
_SERVICE = "/Mediasite/PlayerService/PlayerService.svc/json/GetPlayerOptions"


def lecture_path(lecture: str = LECTURE) -> str:
    return f"/Mediasite/Play/{lecture}"


def serve_lecture(
    origin: Origin,
    content: bytes,
    *,
    lecture: str = LECTURE,
    seconds: float | None = 2,
    **presentation: Any,
) -> str:
    """Publishes one lecture whose file is `/lecture.mp4`; its URL."""
    origin.serve("/lecture.mp4", Page(content))
    stream = {
        "StreamType": 0,
        "VideoUrls": [{"Location": origin.url("/lecture.mp4"), "MimeType": "video/mp4"}],
    }
    said = {
        "Title": "On Bells",
        "Description": "How they are cast.",
        "Duration": seconds * 1000 if seconds is not None else None,
        "UnixTime": 1_474_268_400_000,
        "Streams": [stream],
        **presentation,
    }
    answer = json.dumps({"d": {"Presentation": said}}).encode()
    origin.serve(_SERVICE, Page(answer, content_type="application/json"))
    return origin.serve(
        lecture_path(lecture), Page(b"<html><p>A player.</p></html>", content_type="text/html")
    )


def serve_page(origin: Origin, path: str, lecture: str = LECTURE) -> str:
    """A page that shows the lecture; its URL."""
    text = f"<html><h1>{path}</h1><iframe src='{lecture_path(lecture)}'></iframe></html>"
    return origin.serve(path, Page(text.encode(), content_type="text/html"))
