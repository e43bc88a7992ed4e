"""A fake YouTube: its watch page, its player API, its thumbnails and its media servers, as yt-dlp
uses them, and SponsorBlock's API. It is reached as a company's proxy would be (INGOT_EGRESS_PROXY,
INGOT_EGRESS_CA_FILE).

Its responses have the fields that yt-dlp's extractor reads. Tests marked `live` show whether the
real site still has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from ingot_server.config import Settings
from tests.botguard import (
    INTERPRETER_PATH,
    VISITOR,
    Handler,
    challenge,
    integrity_token,
    interpreter,
)
from tests.tcp_server import tcp_server
from tests.tls import server_context
from tests.videos import REMOVED, Video

MEDIA_HOST = "r1---sn-standin.googlevideo.com"
N = "nSigChallenge0123"
SIGNATURE = "AOq0QJ8wRQIhAbcdefghijklmnopqrstuvwxyz0123456789"
_CHUNK = 1 << 16
PLAYER_URL = "/s/player/0a1b2c3d/player_ias.vflset/en_US/base.js"
PLAYER = """\
var _yt_player = {};
(function (g) {
  "use strict";
  var settings = {signatureTimestamp: 20000};
  var Address = function () { this.fields = {}; };
  Address.prototype.set = function (name, value) { this.fields[name] = value; };
  Address.prototype.get = function (name) { return this.fields[name]; };
  Address.prototype.clone = function () { return this; };
  Address.prototype.solve = function () {
    if (this.fields.n) this.fields.n = this.fields.n.split("").reverse().join("");
  };
  var make = function (base, name, signature) {
    var address = new Address();
    address.set("alr", "yes");
    if (signature) {
      var solved = decodeURIComponent(signature).split("").reverse().join("");
      address.set(name, encodeURIComponent(solved));
    }
    return address;
  };
}(_yt_player));
"""
"""A script as the site's player is one: both of its challenges are solved by turning them round.

What yt-dlp looks for in it is all that it has in common with the real one.
"""


class FakeYouTube:
    """Serves `videos` by their ids; `log` has every request as `METHOD host/path`."""

    def __init__(self) -> None:
        self.videos: dict[str, Video] = {}
        self.log: list[str] = []
        self.cookies_of: list[str] = []  # the cookies of each request in `log`
        self.segments: Any = None  # what SponsorBlock's API says of every video; None: nothing
        self.signs_out = False  # an answer of the player API ends the session of an account
        self.attests = True  # whether it has an attestation, see tests/botguard.py
        self.silent = False  # the proxy takes connections and says nothing
        self.connections = 0  # that the proxy took
        self.proxy_url = ""
        self.ca_file = ""
        self._tls_port = 0

    def settings(self, settings: Settings) -> Settings:
        """`settings` by which all outgoing traffic comes here."""
        return settings.replace(egress_proxy=self.proxy_url, egress_ca_file=self.ca_file)

    def asked(self, part: str) -> list[str]:
        return [request for request in self.log if part in request]

    @asynccontextmanager
    async def running(self, directory: Path) -> AsyncIterator[FakeYouTube]:
        tls, authority = server_context(directory)
        self.ca_file = str(authority)
        runner = web.AppRunner(
            self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await self._listen(runner, tls)
        try:
            async with tcp_server(self._tunnel) as address:
                self.proxy_url = f"http://{address}"
                yield self
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner, tls: ssl.SSLContext) -> None:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        self._tls_port = runner.addresses[0][1]

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/watch", self._watch)
        app.router.add_get("/embed/{id}", self._embed)
        app.router.add_post("/youtubei/v1/next", self._next)
        app.router.add_post("/youtubei/v1/player", self._player)
        app.router.add_get("/vi/{id}/{name}", self._thumbnail)
        app.router.add_get("/sb/{id}/{name}", self._sheet)
        app.router.add_get(PLAYER_URL, self._script)
        app.router.add_get("/videoplayback", self._media)
        app.router.add_post("/youtubei/v1/att/get", self._attestation(challenge))
        app.router.add_get(INTERPRETER_PATH, self._attestation(interpreter))
        app.router.add_post("/api/jnn/v1/GenerateIT", self._attestation(integrity_token))
        app.router.add_get("/api/skipSegments/{prefix}", self._marked_segments)
        app.router.add_route("*", "/{rest:.*}", self._nothing)
        return app

    def _video(self, request: web.Request, video_id: str) -> Video | None:
        self.log.append(f"{request.method} {request.host}{request.path_qs}")
        self.cookies_of.append(request.headers.get("Cookie", ""))
        return self.videos.get(video_id)

    async def _watch(self, request: web.Request) -> web.Response:
        video = self._video(request, request.query.get("v", ""))
        if video is not None and video.player_status != 200:
            return web.Response(status=video.player_status)
        client = {"clientName": "WEB", "clientVersion": "2.20260101.00.00", "visitorData": VISITOR}
        found: dict[str, Any] = {
            "VISITOR_DATA": VISITOR,
            "INNERTUBE_CONTEXT": {"client": client},
        }
        if video and (video.scrambled or video.po_token):
            found["PLAYER_JS_URL"] = PLAYER_URL
        settings = json.dumps(found)
        page = f"<!DOCTYPE html><html><body><script>ytcfg.set({settings});</script></body></html>"
        return web.Response(text=page, content_type="text/html")

    async def _script(self, request: web.Request) -> web.Response:
        self._video(request, "")
        return web.Response(text=PLAYER, content_type="text/javascript")

    async def _embed(self, request: web.Request) -> web.Response:
        """The page of a player elsewhere, which age-restricted videos are tried through."""
        self._video(request, "")
        client = {"clientName": "WEB_EMBEDDED_PLAYER", "clientVersion": "1.20260101.00.00"}
        settings = json.dumps({"INNERTUBE_CONTEXT": {"client": client}})
        page = f"<!DOCTYPE html><html><body><script>ytcfg.set({settings});</script></body></html>"
        return web.Response(text=page, content_type="text/html")

    async def _next(self, request: web.Request) -> web.Response:
        self._video(request, "")
        owner = {"title": {"runs": [{"text": "An uploader"}]}}
        below = {"videoSecondaryInfoRenderer": {"owner": {"videoOwnerRenderer": owner}}}
        columns = {"results": {"results": {"contents": [below]}}}
        return web.json_response({"contents": {"twoColumnWatchNextResults": columns}})

    async def _player(self, request: web.Request) -> web.Response:
        asked = await request.json()
        video_id = asked.get("videoId", "")
        browser = asked["context"]["client"]["clientName"] == "WEB"
        video = self._video(request, video_id)
        if video is None:
            return web.json_response({"playabilityStatus": REMOVED})
        if video.player_status != 200:
            return web.json_response({"error": {}}, status=video.player_status)
        details = {
            "videoId": video_id,
            "title": video.title,
            "lengthSeconds": "2",
            "shortDescription": "A description.",
            "keywords": ["one", "two"],
            "channelId": "UCuAXFkgsw1L7xaCfnd5JJOw",
            "author": "An uploader",
            "viewCount": "1",
            "isLiveContent": False,
            **video.details,
        }
        playability = dict(video.playability)
        if video.opens_for and video.opens_for in request.cookies:
            playability = {"status": "OK"}
        answer: dict[str, Any] = {
            "playabilityStatus": playability,
            "videoDetails": details,
            "microformat": {
                "playerMicroformatRenderer": {
                    "publishDate": "2009-10-24T23:57:33-07:00",
                    "uploadDate": "2009-10-24T23:57:33-07:00",
                }
            },
        }
        if video.sheet:
            board = f"https://i.ytimg.com/sb/{video_id}/$N.jpg?sqp=a|80#45#4#2#1#500#M$M#rs$b"
            answer["storyboards"] = {"playerStoryboardSpecRenderer": {"spec": board}}
        # What takes a token comes for browsers alone.
        needs_token = bool(video.po_token) and browser
        if playability["status"] == "OK" and (
            needs_token or not video.po_token or video.also_without_token
        ):
            answer["streamingData"] = self._streaming(video_id, video, needs_token=needs_token)
        response = web.json_response(answer)
        if self.signs_out:
            response.set_cookie("LOGIN_INFO", "", max_age=0, domain=".youtube.com", secure=True)
        return response

    def _streaming(self, video_id: str, video: Video, *, needs_token: bool) -> dict[str, Any]:
        # Of the old formats this one alone comes without a token.
        itag, height = (22, 240) if needs_token else (18, 120)
        url = f"https://{MEDIA_HOST}/videoplayback?id={video_id}&itag={itag}"
        where = {"url": url}
        if video.scrambled:
            where = {
                "signatureCipher": urlencode({"s": SIGNATURE, "sp": "sig", "url": f"{url}&n={N}"})
            }
        return {
            "expiresInSeconds": "21540",
            "formats": [
                {
                    "itag": itag,
                    **where,
                    "mimeType": 'video/mp4; codecs="avc1.42001E, mp4a.40.2"',
                    "bitrate": 100_000,
                    "width": height * 4 // 3,
                    "height": height,
                    "fps": 25,
                    "quality": "medium",
                    "qualityLabel": f"{height}p",
                    "contentLength": str(len(video.content)),
                    "approxDurationMs": "2000",
                    "audioQuality": "AUDIO_QUALITY_LOW",
                    "audioSampleRate": "44100",
                    "audioChannels": 2,
                }
            ],
            "adaptiveFormats": [
                {
                    "itag": 400 + number,
                    "mimeType": 'video/mp4; codecs="avc1.640028"',
                    "bitrate": 1_000_000,
                    "height": height,
                    "fps": 25,
                    "quality": "hd",
                    "qualityLabel": f"{height}p",
                }
                for number, height in enumerate(video.withheld)
            ],
        }

    async def _thumbnail(self, request: web.Request) -> web.Response:
        video = self._video(request, request.match_info["id"])
        if video is None or not video.exists:
            return web.Response(status=404, body=b"\xff\xd8", content_type="image/jpeg")
        return web.Response(body=video.thumbnail, content_type="image/jpeg")

    async def _sheet(self, request: web.Request) -> web.Response:
        video = self._video(request, request.match_info["id"])
        if video is None or request.match_info["name"] not in {"M0.jpg", "M1.jpg"}:
            return web.Response(status=404)
        return web.Response(body=video.sheet, content_type="image/jpeg")

    async def _media(self, request: web.Request) -> web.StreamResponse:
        video = self._video(request, request.query.get("id", ""))
        if video is None or not _solved(video, request.query):
            return web.Response(status=403)
        if video.gate is not None:
            await video.gate.wait()
        content = video.content
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        end = min(int(wanted[2]) + 1 if wanted and wanted[2] else len(content), len(content))
        headers = {"Content-Type": "video/mp4", "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return web.Response(status=206 if wanted else 200, body=content[start:end], headers=headers)

    def _attestation(self, answer: Handler) -> Handler:
        async def log_and_answer(request: web.Request) -> web.Response:
            self._video(request, "")
            return await answer(request) if self.attests else web.Response(status=404)

        return log_and_answer

    async def _marked_segments(self, request: web.Request) -> web.Response:
        """SponsorBlock's API: the videos whose ids have a hash that begins with the prefix."""
        self._video(request, "")
        if self.segments is None:
            return web.Response(status=404, text="Not Found")
        found = [{"videoID": video_id, "segments": self.segments} for video_id in self.videos]
        return web.json_response(found)

    async def _nothing(self, request: web.Request) -> web.Response:
        self._video(request, "")
        return web.Response(status=404)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """CONNECT to any host leads to the one TLS server."""
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                if self.silent:
                    await asyncio.Event().wait()
                if not head.startswith(b"CONNECT "):
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    return
                site = await asyncio.open_connection("127.0.0.1", self._tls_port)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _relay((reader, writer), site)
            finally:
                writer.close()


def _solved(video: Video, query: Mapping[str, str]) -> bool:
    free = video.also_without_token and query.get("itag") == "18"
    if video.po_token and not free and query.get("pot") != video.po_token:
        return False
    given = query.get("n"), query.get("sig")
    return not video.scrambled or given == (N[::-1], SIGNATURE[::-1])


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _relay(client: Side, site: Side) -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()

    copies = [
        asyncio.create_task(copy(client[0], site[1])),
        asyncio.create_task(copy(site[0], client[1])),
    ]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in copies:
            task.cancel()
        site[1].close()
