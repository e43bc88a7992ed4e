"""The forms of subtitles: what a file is, and WebVTT made of it, in the extraction child."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yt_dlp
import yt_dlp.utils
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

SUBTITLE_TYPES: Final = {
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "ttml": "application/ttml+xml",
    "ass": "text/x-ssa",
    "json": "application/json",
}
"""The media types of the forms that are stored, by file extension, the best first."""


def subtitle_format(start: bytes) -> str:
    """Return the subtitle format of a file that begins with `start`; empty if it is not one."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"WEBVTT"):
        return "vtt"
    if text.startswith(b"<") and re.search(rb"<(?:\w+:)?tt[\s>]", text):
        return "ttml"
    if re.match(rb"\d+\s*\n\d+:\d\d:\d\d[,.]\d+\s*-->", text):
        return "srt"
    if text.startswith(b"[Script Info]"):
        return "ass"
    if text.startswith(b"{") and b'"wireMagic"' in text:  # json3 of YouTube
        return "json"
    return ""


def to_webvtt(ydl: yt_dlp.YoutubeDL, path: Path) -> Path | None:
    """Return a WebVTT file next to a file of subtitles; None if nothing here reads its form.

    Raises what yt-dlp and ffmpeg raise for a file that is damaged.
    """
    content = path.read_bytes()
    extension = path.suffix.removeprefix(".")
    if extension == "ttml":
        text, extension = yt_dlp.utils.dfxp2srt(content), "srt"
    elif extension in ("srt", "ass"):
        text = _decoded(content)
    else:
        return None
    source = path.with_name(f"{path.stem}-utf8.{extension}")
    target = path.with_name(f"{path.stem}-converted.vtt")
    source.write_text(text, encoding="utf-8")
    FFmpegPostProcessor(ydl).run_ffmpeg(str(source), str(target), ["-f", "webvtt"])
    return target


def _decoded(content: bytes) -> str:
    """Return text in UTF-8, or else in Windows-1252."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
