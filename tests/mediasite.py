"""A fake Mediasite server: presentations, and pages that embed them, for yt-dlp's own extractor.

A Mediasite server is any host with these paths, so the extractor accepts this one. Only the
format of its responses is Mediasite's.
"""

from __future__ import annotations

import json
from typing import Any

from tests.origin import Origin, Page

PRESENTATION = "2db6c271681e4f199af3c60d1f82869b1d"
_SERVICE = "/Mediasite/PlayerService/PlayerService.svc/json/GetPlayerOptions"


def presentation_path(presentation: str = PRESENTATION) -> str:
    return f"/Mediasite/Play/{presentation}"


def serve_presentation(
    origin: Origin,
    content: bytes,
    *,
    presentation: str = PRESENTATION,
    seconds: float | None = 2,
    **fields: Any,
) -> str:
    """Publish a presentation whose file is `/lecture.mp4`, and return its URL."""
    origin.serve("/lecture.mp4", Page(content))
    stream = {
        "StreamType": 0,
        "VideoUrls": [{"Location": origin.url("/lecture.mp4"), "MimeType": "video/mp4"}],
    }
    metadata = {
        "Title": "On Bells",
        "Description": "How they are cast.",
        "Duration": seconds * 1000 if seconds is not None else None,
        "UnixTime": 1_474_268_400_000,
        "Streams": [stream],
        **fields,
    }
    response = json.dumps({"d": {"Presentation": metadata}}).encode()
    origin.serve(_SERVICE, Page(response, content_type="application/json"))
    return origin.serve(
        presentation_path(presentation),
        Page(b"<html><p>A player.</p></html>", content_type="text/html"),
    )


def serve_page(origin: Origin, path: str, presentation: str = PRESENTATION) -> str:
    """Publish a page that embeds the presentation, and return its URL."""
    text = f"<html><h1>{path}</h1><iframe src='{presentation_path(presentation)}'></iframe></html>"
    return origin.serve(path, Page(text.encode(), content_type="text/html"))
