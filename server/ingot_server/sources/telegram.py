"""The sources at Telegram: posts of channels and groups, and files that a bot received.

    https://t.me/<channel>/<id>         telegram:<channel>/<id>        a public post, by yt-dlp
    https://t.me/c/<channel id>/<id>    telegram:c/<channel id>/<id>   a private one, by MTProto
    either, as a list                   telegram:.../<id>/album        all media posted with it
    telegram://video/<file_id>          telegram:<file_id>             a file, by the Bot API

A message's number is unique in its channel, so a topic before it and a comment after it do not
matter (core.telegram.org/api/links). No channel is called `c`: a name has four letters or more.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, NoReturn
from urllib.parse import parse_qs, unquote

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources.source import FetchMethod, Identity, SourceDefaults

NAME: Final = "telegram"

_HOSTS: Final = r"(?:www\.)?(?:t\.me|telegram\.(?:me|dog))"
_LINK: Final = re.compile(
    rf"(?:https?:)?(?://)?(?:{_HOSTS}|(?P<channel>[a-z][a-z0-9_]{{3,31}})\.t\.me)\.?"
    r"(?P<port>:\d*)?(?P<rest>[/?#].*|$)",
    re.IGNORECASE | re.DOTALL,
)
_APP_LINK: Final = re.compile(
    r"tg:(?://)?(?P<action>[a-z]+)/?\?(?P<query>[^#]*).*", re.IGNORECASE | re.DOTALL
)
_FILE: Final = re.compile(
    r"telegram:(?://)?(?:(?P<kind>[a-z_]+)/+)?(?P<file_id>[^/?#]*)/?(?:[?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
_KINDS: Final = frozenset(
    {"video", "audio", "voice", "video_note", "animation", "document", "file"}
)
_FILE_ID: Final = re.compile(r"[A-Za-z0-9_-]{16,255}")
_CHANNEL: Final = re.compile(r"[a-z][a-z0-9_]{3,31}")
_SINGLE: Final = re.compile(r"[?&]single(?:[=&#]|\s*$)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"0*([1-9][0-9]{0,18})", re.ASCII)
_LAST_MESSAGE: Final = 2**31 - 1
_DEFAULT_PORTS: Final = frozenset({"", ":", ":80", ":443"})

# First path segments that do not lead to a channel (core.telegram.org/api/links).
_NO_CHANNELS: Final = frozenset(
    {
        *("addemoji", "addlist", "addstickers", "addtheme", "auction", "boost", "call"),
        *("confirmphone", "contact", "giftcode", "invoice", "joinchat", "login", "nft"),
        *("proxy", "setlanguage", "share", "socks", "stickers"),
    }
)
_FORM: Final = "https://t.me/<channel>/<number>"


class TelegramSource(SourceDefaults):
    """Accepts links to posts of public channels and groups. The media of a post does not change."""

    name: Final = NAME
    fetch_method: Final = FetchMethod.TELEGRAM_POST
    accepts: Final = ("https://t.me/<channel>/<id>",)
    has_public_host = True
    uses_extractor = True

    def identify(self, url: str) -> Identity | None:
        path = _path(url.strip())
        if path is None or path[:1] == ["c"]:
            return None
        if not path or not _CHANNEL.fullmatch(path[0]) or path[0] in _NO_CHANNELS:
            _refuse("names no post of a channel", f"Use the link of a post, {_FORM}.")
        channel, *numbers = path
        if not numbers:
            _refuse("names a channel, not a post", f"Use the link of a post, {_FORM}.")
        post = f"{channel}/{_message(numbers, _FORM)}"
        link = f"https://t.me/{post}"
        return Identity(NAME, f"{NAME}:{post}", link, link)

    def identify_list(self, url: str) -> Identity | None:
        """Return the album that a post is part of, or only the post if its link says `single`."""
        return _album(self.identify(url), url)


class TelegramFileSource(SourceDefaults):
    """Accepts files of bots and posts of private channels and groups, which need an account."""

    name: Final = "telegram_file"
    fetch_method: Final = FetchMethod.TELEGRAM_FILE
    accepts: Final = ("telegram://video/<file_id>",)
    required_setting = "telegram_bot_token"

    def identify(self, url: str) -> Identity | None:
        text = url.strip()
        if text[:9].lower() == "telegram:":
            file_id = _file_id(text)
            link = f"telegram://video/{file_id}"
            return Identity(NAME, f"{NAME}:{file_id}", link, link)
        path = _path(text)
        if path is None or path[:1] != ["c"]:
            return None
        form = "https://t.me/c/<channel id>/<number>"
        channel = _NUMBER.fullmatch(path[1]) if len(path) > 1 else None
        if channel is None:
            _refuse("names no post of a private channel", f"Use the link of a post, {form}.")
        post = f"c/{channel[1]}/{_message(path[2:], form)}"
        link = f"https://t.me/{post}"
        return Identity(NAME, f"{NAME}:{post}", link, link)

    def identify_list(self, url: str) -> Identity | None:
        """Return the album that a private post is part of. A bot's file is not part of one."""
        identity = self.identify(url)
        if identity is None or file_id_of(identity) is not None:
            return identity
        return _album(identity, url)


def file_id_of(identity: Identity) -> str | None:
    """Return the file id that `identity` names, or None if it names a message."""
    return None if "/" in identity.key else identity.key.partition(":")[2]


def message_of(identity: Identity) -> tuple[int | str, int]:
    """Return the channel of a post and the message in it. A private channel is a number."""
    channel, _, message = identity.key.partition(":")[2].rpartition("/")
    number = channel.removeprefix("c/")
    return channel if number == channel else int(number), int(message)


def _album(post: Identity | None, url: str) -> Identity | None:
    """Return the album of a post. Any post may be part of one; only Telegram knows."""
    if post is None or _SINGLE.search(url):
        return post
    return replace(post, key=f"{post.key}/album")


def _path(text: str) -> list[str] | None:
    """Return the path `[channel, ..., message]` of a link, or None if it is not Telegram's."""
    app = _APP_LINK.fullmatch(text)
    if app is not None:
        return _app_path(app["action"].lower(), app["query"])
    link = _LINK.fullmatch(text)
    if link is None or (link["port"] or "") not in _DEFAULT_PORTS:
        return None
    path = re.split(r"[?#]", link["rest"], maxsplit=1)[0]
    segments = [unquote(one) for one in path.split("/") if one]
    segments[:1] = [one.lower() for one in segments[:1]]
    if link["channel"] and link["channel"].lower() != "www":
        return [link["channel"].lower(), *segments]
    if segments[:1] == ["s"]:
        segments = [one.lower() for one in segments[1:2]] + segments[2:]
    return segments


def _app_path(action: str, query: str) -> list[str]:
    """Return the path of `tg://resolve?domain=NAME&post=ID` or `tg://privatepost?channel=ID&post=ID`."""
    fields = {name.lower(): values[0] for name, values in parse_qs(query).items()}
    post = [fields["post"]] if "post" in fields else []
    if action == "privatepost" and "channel" in fields:
        return ["c", fields["channel"], *post]
    if action != "resolve" or "domain" not in fields:
        _refuse("names no post of a channel", "Use tg://resolve?domain=<channel>&post=<number>.")
    return [fields["domain"].lower(), *post]


def _message(numbers: list[str], form: str) -> int:
    """Return the message's number, the last one. At most a topic's number is before it."""
    found = [_NUMBER.fullmatch(one) for one in numbers]
    last = found[-1] if found else None
    if last is None or None in found or len(found) > 2 or int(last[1]) > _LAST_MESSAGE:
        _refuse("names no post by its number", f"Use the link of a post, {form}.")
    return int(last[1])


def _file_id(text: str) -> str:
    match = _FILE.fullmatch(text)
    kind = (match["kind"] or "").lower() if match else ""
    if match is None or kind not in _KINDS:
        _refuse("names no file of a bot", "Write it as telegram://video/<file_id>.")
    file_id: str = match["file_id"]
    if not _FILE_ID.fullmatch(file_id):
        _refuse(
            "has a malformed file_id", "Use the file_id of the bot's message as it is, unquoted."
        )
    return file_id


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The Telegram link {problem}. {remedy}",
        violations={"url": f"{problem}. {remedy}"},
    )
