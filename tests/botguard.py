"""A stand-in for YouTube's attestation, with a BotGuard of a few lines.

Its endpoints and messages have the fields that Ingot and bgutils-js use. The script has the
interface of Google's, and mints a token of the binding and the integrity token. What Google's
script finds out about the machine that runs it has no stand-in.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.Response]]

VISITOR = "CgtzdGFuZC1pbi1pZA%3D%3D"
INTERPRETER_PATH = "/js/th/standin.js"
# YouTube's is at www.google.com, for which the certificate of the tests does not stand.
_INTERPRETER_URL = f"//www.youtube.com{INTERPRETER_PATH}"
INTERPRETER = """
globalThis.standin = {
  a: function (program, setup) {
    var snapshot = function (done, args) {
      args[2].push(function (integrity) {
        return function (binding) { return new Uint8Array([...integrity, ...binding]); };
      });
      var seen = [document.readyState, location.hostname, typeof navigator.plugins];
      try { Deno.readTextFileSync("/etc/hostname"); seen.push("reads"); } catch { seen.push("-"); }
      console.log("noise of the script");
      done([program, ...seen, navigator.userAgent].join("|"));
    };
    setup(snapshot, function () {}, function () {}, function () {});
    return [function () {}];
  },
};
"""
_PROGRAM = "a program"
_INTEGRITY = b"integrity-of-the-stand-in:"


def token_for(binding: str) -> str:
    """The token that is minted for a video or a visitor."""
    return base64.urlsafe_b64encode(_INTEGRITY + binding.encode()).decode()


async def challenge(request: web.Request) -> web.Response:
    asked = await request.json()
    if asked["engagementType"] != "ENGAGEMENT_TYPE_UNBOUND" or "client" not in asked["context"]:
        return web.Response(status=400)
    url = {"privateDoNotAccessOrElseTrustedResourceUrlWrappedValue": _INTERPRETER_URL}
    return web.json_response(
        {"bgChallenge": {"interpreterUrl": url, "program": _PROGRAM, "globalName": "standin"}}
    )


async def interpreter(_: web.Request) -> web.Response:
    return web.Response(text=INTERPRETER, content_type="text/javascript")


async def integrity_token(request: web.Request) -> web.Response:
    """Gives one for a program that has run in a page of YouTube, and cannot read files."""
    key, response = json.loads(await request.read())
    agent = request.headers["User-Agent"]
    expected = f"{_PROGRAM}|complete|www.youtube.com|object|-|{agent}"
    if not key or response != expected or "x-goog-api-key" not in request.headers:
        return web.json_response([None, 0, 0, f"refused: {response}"], status=403)
    return web.json_response([base64.b64encode(_INTEGRITY).decode(), 43200, 100, None])
