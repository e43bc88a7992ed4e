"""Fakes of Telegram on real web servers: its Bot API, and the pages of public posts.

What the Bot API answers, word for word, is of api.telegram.org; the pages are cut down to what
Telegram's embed widget has around a post. MTProto is spoken by tests/mtproto.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

from aiohttp import web

from tests.leaks import MARK
from tests.tcp_server import pump, tcp_server

TOKEN = f"110201543:AAHdqTcvCH1vGWJxf{MARK}K5PALDsaw"
FILE_ID = "BAACAgIAAxkBAAIBQ2Fd-k_qVxYz0AAB9AbCdEfGhIjKlMnO"


def refused(
    status: int, description: str, parameters: Mapping[str, object] | None = None
) -> web.Response:
    """A response of the Bot API that refuses."""
    answer: dict[str, object] = {"ok": False, "error_code": status, "description": description}
    if parameters:
        answer["parameters"] = parameters
    return web.json_response(answer, status=status)


def found(path: str | None, size: int | None = None, file_id: str = FILE_ID) -> web.Response:
    """A response of getFile with the file's path."""
    result: dict[str, Any] = {"file_id": file_id, "file_unique_id": "AgADqwEAAkJfFFE"}
    if size is not None:
        result["file_size"] = size
    if path is not None:
        result["file_path"] = path
    return web.json_response({"ok": True, "result": result})


@dataclass
class FakeBotApi:
    """Answers getFile with `answers` in turn, the last one for ever; serves `files` by path."""

    answers: list[web.Response | asyncio.Event] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # host and path with query
    redirect: str = ""  # instead of any answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.redirect:
            return web.Response(status=302, headers={"Location": self.redirect})
        self.asked.append((request.host, request.raw_path))
        if request.path == f"/bot{TOKEN}/getFile" and request.query.get("file_id"):
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                return refused(500, "Internal Server Error")
            return web.Response(
                status=answer.status, body=answer.body, content_type=answer.content_type
            )
        content = self.files.get(request.path.removeprefix(f"/file/bot{TOKEN}/"))
        if not request.path.startswith("/file/") or content is None:
            return refused(404, "Not Found")
        return web.Response(body=content, content_type="application/octet-stream")


@dataclass(frozen=True)
class Video:
    """One video of a post; without `content` one that is too big for the page."""

    post: int
    content: bytes


@dataclass
class FakeTelegramPages:
    """t.me: posts of public channels as its embed widget shows them, and a file server for them."""

    albums: dict[str, list[Video]] = field(default_factory=dict)  # "channel/number" of any post
    bodies: dict[str, str] = field(default_factory=dict)  # of posts without a video, as HTML
    text: str = "Two clips from the lake\nwith a second line"
    asked: list[tuple[str, str]] = field(default_factory=list)
    media_host: str = ""  # HOST:PORT of the file server, as pages name it

    def post(self, channel: str, *videos: Video) -> None:
        """Puts up an album: each of its posts shows all of its videos."""
        for video in videos:
            self.albums[f"{channel}/{video.post}"] = list(videos)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.host, request.raw_path))
        channel, _, name = request.path.strip("/").partition("/")
        if channel == "file":
            content = next(
                (
                    video.content
                    for post, album in self.albums.items()
                    for video in album
                    if name == f"{post.partition('/')[0]}-{video.post}.mp4"
                ),
                None,
            )
            if content is None:
                return web.Response(status=404)
            return web.Response(body=content, content_type="video/mp4")
        channel = channel.lower()
        album = self.albums.get(f"{channel}/{name}", [])
        body = self.bodies.get(f"{channel}/{name}", "")
        if album or body:
            page = self._widget(channel, name, album, body)
        elif any(post.startswith(f"{channel}/") for post in (*self.albums, *self.bodies)):
            page = _error("Post not found")
        else:
            page = _error(f"Channel with username <b>@{channel}</b> not found")
        return web.Response(text=page, content_type="text/html")

    def _player(self, channel: str, video: Video) -> str:
        file = f"https://{self.media_host}/file/{channel}-{video.post}.mp4"
        shown = f'''<video src="{file}"
 class="tgme_widget_message_video js-message_video" width="100%"></video>'''
        label = "This media is not supported in your browser" if video.content else TOO_BIG
        mark = "" if video.content else " not_supported"
        # As on the real pages, each player has a box that says why it cannot play.
        return f"""<a class="tgme_widget_message_video_player{mark} js-message_video_player"
 href="https://t.me/{channel}/{video.post}">
<i class="tgme_widget_message_video_thumb"
 style="background-image:url('https://{self.media_host}/thumb.jpg')"></i>
<div class="tgme_widget_message_video_wrap">{shown if video.content else ""}</div>
{not_supported(label)}
<time class="message_video_duration js-message_video_duration">0:02</time></a>"""

    def _widget(self, channel: str, post: str, album: list[Video], body: str) -> str:
        videos = "".join(self._player(channel, video) for video in album)
        text = escape(self.text).replace("\n", "<br/>")
        return f"""<!DOCTYPE html><html><body class="widget_frame_base">
<div class="tgme_widget_message js-widget_message" data-post="{channel}/{post}">
<div class="tgme_widget_message_author accent_color"><a href="https://t.me/{channel}"><span>
The {channel} channel</span></a></div>
{videos}{body}
<div class="tgme_widget_message_text js-message_text" dir="auto">{text}</div>
<a class="tgme_widget_message_date" href="https://t.me/{channel}/{post}">
<time datetime="2026-10-21T17:26:43+00:00" class="datetime">Oct 21, 2026</time></a>
</div></body></html>"""


TOO_BIG = "Media is too big"
FOR_THE_APPS = "Please open Telegram to view this post"


def not_supported(label: str) -> str:
    """What a page has in the place of what it does not show."""
    return f"""<div class="message_media_not_supported_wrap">
<div class="message_media_not_supported">
<div class="message_media_not_supported_label">{label}</div>
<span class="message_media_view_in_telegram">VIEW IN TELEGRAM</span></div></div>"""


def _error(text: str) -> str:
    return f"""<!DOCTYPE html><html><body class="widget_frame_base emoji_image">
<div class="tgme_widget_message_error">{text}</div></body></html>"""


@asynccontextmanager
async def company_proxy(destinations: Mapping[str, str]) -> AsyncIterator[str]:
    """A company's egress proxy: `HOST:PORT` asked for by CONNECT leads to where the table says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        target = destinations.get(head.split()[1])
        if target is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            writer.close()
            return
        host, _, port = target.rpartition(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    async with tcp_server(serve) as address:
        yield f"http://{address}"
