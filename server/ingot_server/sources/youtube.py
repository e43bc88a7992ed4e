"""The source YouTube: videos by the id in any form of link, and lists if a list is requested.

    youtube:<id>                       a video, 11 of A-Z a-z 0-9 _ -
    youtube-playlist:<list id>         a playlist, an album or a mix
    youtube-playlist:<channel>/<tab>   a channel's videos, shorts or streams; the channel is its id,
                                       @handle, c/NAME or user/NAME

The id is read only from where YouTube itself reads it. A link with a time stamp, a share token or a
playlist around it still names that video, and a link with two ids is refused.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources.http import normalise
from ingot_server.sources.source import FetchMethod, Identity, SourceDefaults

HOME: Final = "https://www.youtube.com"

_OURS: Final = re.compile(
    r"(?:[a-z0-9-]+\.)*"
    r"(?:youtube\.com|youtube-nocookie\.com|youtubekids\.com|youtu\.be|youtube\.googleapis\.com)\.?",
    re.ASCII,
)
_HOSTS: Final = frozenset(
    [
        *(f"{name}youtube.com" for name in ("", "www.", "m.", "music.", "gaming.")),
        *("youtube-nocookie.com", "www.youtube-nocookie.com", "www.youtubekids.com"),
        *("youtube.googleapis.com", "www.youtube.googleapis.com"),
    ]
)
_SHORT_HOSTS: Final = frozenset(["youtu.be", "www.youtu.be"])
_CONSENT_HOST: Final = "consent.youtube.com"

_WITH_PARAMETER: Final = frozenset(["watch", "watch_popup", "movie", "ytscreeningroom"])
_WITH_SEGMENT: Final = frozenset(["shorts", "live", "embed", "v", "vi", "e", "watch"])
# Path segments of YouTube that look like ids because they have eleven letters.
_NO_IDS: Final = frozenset(["videoseries", "live_stream"])
_VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_LIST_ID: Final = re.compile(
    r"(?:PL|LL|EC|UU|FL|RD|UL|TL|PU|OLAK5uy_)[A-Za-z0-9_-]{10,}|RDMM|WL|LL|LM", re.ASCII
)
_CHANNEL_ID: Final = re.compile(r"UC[A-Za-z0-9_-]{22}", re.ASCII)
_TABS: Final = frozenset(["videos", "shorts", "streams"])

_ENCODED_SCHEME: Final = re.compile(r"https?%3A(?:%2F|/){2}", re.IGNORECASE)
_NO_SCHEME: Final = re.compile(r"(?://)?(?P<host>[^/?#:@\\\s]+)(?=[/?#:]|$)")
# Forms of the mobile site and the first player, which put the path or the query after `#`.
_HASH_PATH: Final = re.compile(r"^(https?://[^/?#]+)/?#!?/", re.IGNORECASE)
_HASH_QUERY: Final = re.compile(r"^(https?://[^/?#]+/watch)#!?(?=\w+=)", re.IGNORECASE)
# The player on the old pages of users: `#p/u/1/ID`, `#p/a/u/1/ID`.
_HASH_PLAYER: Final = re.compile(
    r"^(https?://[^/?#]+)/user/[^/?#]+/?#p/(?:a/)?u/\d+/(?=[^/]+$)", re.IGNORECASE
)
_ROUGH_HOST: Final = re.compile(r"https?:/*(?:[^/?#]*@)?(?P<host>[^/?#:]*)", re.IGNORECASE)


class YouTubeSource(SourceDefaults):
    """Accepts every URL of YouTube's hosts, and refuses those that do not name a video."""

    name: Final = "youtube"
    fetch_method: Final = FetchMethod.EXTRACTOR
    accepts: Final = (
        "https://www.youtube.com/watch?v=<id>",
        "https://youtu.be/<id>",
        "https://www.youtube.com/shorts/<id>",
        "https://www.youtube.com/playlist?list=<id>",
    )
    has_public_host = True
    uses_extractor = True
    may_be_live = True
    has_selections = True
    offers_audio_only = True
    has_side_files = True
    # As yt-dlp tells, in extractor/youtube/_base.py.
    login_cookies = (("LOGIN_INFO",), ("SAPISID", "__Secure-1PAPISID", "__Secure-3PAPISID"))

    def identify(self, url: str) -> Identity | None:
        link = _Link.of(url)
        return None if link is None else link.video()

    def identify_list(self, url: str) -> Identity | None:
        link = _Link.of(url)
        return None if link is None else link.named_list() or link.video()

    def preflight_url(self, identity: Identity) -> str | None:
        """Return the thumbnail's URL: every video that is not private has one."""
        kind, _, video_id = identity.key.partition(":")
        if kind != self.name:
            return None
        return f"https://i.ytimg.com/vi/{video_id}/mqdefault.jpg"


class _Link:
    """The parts of a link to one of YouTube's hosts."""

    def __init__(self, host: str, segments: list[str], query: str) -> None:
        self.host = host
        # Links of old players continue after the id with `&`, without a `?`.
        first, *rest = (segments[-1] if segments else "").split("&")
        self.segments = [*segments[:-1], first] if segments else []
        self.parameters = parse_qs("&".join([*rest, query.replace("&amp;", "&")]))
        if shown := self.parameters.pop("vi", []):
            self.parameters.setdefault("v", []).extend(shown)

    @classmethod
    def of(cls, url: str) -> _Link | None:
        """Parse a link; return None for other hosts. Raises Failure INVALID_REQUEST."""
        text = url.strip(" \t\r\n")
        if _ENCODED_SCHEME.match(text):
            text = unquote(text)
        bare = _NO_SCHEME.match(text)
        if bare is not None and _OURS.fullmatch(bare["host"].lower()):
            text = "https://" + text.removeprefix("//")
        text = _HASH_QUERY.sub(r"\1?", _HASH_PATH.sub(r"\1/", text))
        text = _HASH_PLAYER.sub(r"\1/v/", text)
        try:
            normalised = normalise(text)
        except Failure:
            rough = _ROUGH_HOST.match(text)
            if rough is not None and _OURS.fullmatch(rough["host"].lower()):
                raise
            return None  # another source may know what it is
        if normalised is None:
            return None
        parts = urlsplit(normalised)
        host = parts.hostname or ""
        if not _OURS.fullmatch(host):
            return None
        host = host.removesuffix(".")
        if parts.port is not None:
            _refuse(f"has the port {parts.port}, which YouTube does not use", "Remove it.")
        path, _, query = parts.path.partition("%3F")
        if query:
            query = unquote(query)
        segments = [segment for segment in unquote(path).split("/") if segment]
        link = cls(host, segments, "&".join(filter(None, [query, parts.query])))
        return link._inner() or link

    def _inner(self) -> _Link | None:
        """Return the link that this one redirects to, or None."""
        if self.host == _CONSENT_HOST:
            target = self._one("continue", "page")
        elif self.host in _HOSTS and self.segments == ["attribution_link"]:
            target = self._one("u", "page")
        else:
            return None
        if target.startswith("/") and not target.startswith("//"):
            target = HOME + target
        if _ENCODED_SCHEME.match(target) or "attribution_link" in target or "consent." in target:
            _refuse("leads to another link inside of it", "Use the link that it leads to.")
        return _Link.of(target)

    def video(self) -> Identity:
        """Return the video. Raises Failure INVALID_REQUEST if the link does not name one."""
        named = self._named()
        if named is None:
            _refuse(*self._objection())
        shown = sorted({named, *self.parameters.get("v", [])} - {""})
        if len(shown) > 1:
            _refuse("names two different videos", "Use a link with one id.")
        if not _VIDEO_ID.fullmatch(named) or named in _NO_IDS:
            _refuse(
                f"has {named[:20]!r} where the id of a YouTube video belongs",
                "An id has 11 characters: letters, digits, `-` and `_`.",
            )
        url = f"{HOME}/watch?v={named}"
        return Identity(YouTubeSource.name, f"{YouTubeSource.name}:{named}", url, url)

    def _named(self) -> str | None:
        """Return the text in the place of the id, or None if this is not the page of a video."""
        match self.segments:
            case [page] if self.host in _HOSTS and page in _WITH_PARAMETER:
                return self._one("v", "video") or None
            case ["watch"] if self.host in _SHORT_HOSTS:
                return self._one("v", "video") or None
            case [video_id] if self.host in _SHORT_HOSTS:
                return video_id
            case [page, video_id] if self.host in _HOSTS and page in _WITH_SEGMENT:
                return None if video_id in _NO_IDS else video_id
            case [] if self.host in _HOSTS | _SHORT_HOSTS and "v" in self.parameters:
                return self._one("v", "video")
        return None

    def named_list(self) -> Identity | None:
        """Return the playlist or channel that the link names or is part of, or None.

        Raises Failure INVALID_REQUEST if that cannot exist.
        """
        if self.host not in _HOSTS | _SHORT_HOSTS:
            return None
        list_id = self._one("list", "playlist")
        if self.segments[:1] == ["browse"] and len(self.segments) == 2:
            list_id = self.segments[1].removeprefix("VL")  # as YouTube Music calls it
        if list_id:
            if not _LIST_ID.fullmatch(list_id):
                _refuse(
                    f"has {list_id[:40]!r} where the id of a YouTube playlist belongs",
                    "Copy the link of the playlist again.",
                )
            return _list_identity(list_id, f"{HOME}/playlist?list={list_id}")
        channel = self._channel()
        if channel is None:
            return None
        tab = self.segments[-1] if len(self.segments) > channel.count("/") + 1 else ""
        tab = "videos" if tab in {"", "featured"} else tab
        if tab not in _TABS:
            _refuse(
                f"names the page {tab[:40]!r} of a channel, which lists no videos",
                "Use the channel's own link, or its /videos, /shorts or /streams.",
            )
        name = channel.removeprefix("channel/")
        return _list_identity(f"{name}/{tab}", f"{HOME}/{channel}/{tab}")

    def _channel(self) -> str | None:
        """Return the channel's path, in lower case if YouTube ignores case there."""
        match self.segments[:2]:
            case ["channel", name] if len(self.segments) <= 3 and _CHANNEL_ID.fullmatch(name):
                return f"channel/{name}"
            case ["c" | "user" as kind, name] if len(self.segments) <= 3 and _is_name(name):
                return f"{kind}/{name.lower()}"
            case [handle, *_] if (
                len(self.segments) <= 2 and handle.startswith("@") and _is_name(handle[1:])
            ):
                return handle.lower()
        return None

    def _one(self, name: str, what: str) -> str:
        """Return the value of a parameter, or an empty string if it is absent."""
        values = set(self.parameters.get(name, []))
        if len(values) > 1:
            _refuse(f"names two different {what}s", f"Use a link with one `{name}`.")
        return values.pop() if values else ""

    def _objection(self) -> tuple[str, str]:
        if self.parameters.get("list") or self._channel() is not None:
            return (
                "names a list of videos, not a video",
                "Set options.playlist to ingest the list, or use the link of one video.",
            )
        match self.segments:
            case ["clip", *_]:
                return "names a clip, not a video", "Use the link of the video it is from."
            case ["watch" | "watch_popup" | "movie"]:
                return "has no video id", f"Write it as {HOME}/watch?v=ID."
            case ["results", *_]:
                return "is a search on YouTube, not a video", "Use the link of one result."
        if self.host not in _HOSTS | _SHORT_HOSTS:
            return f"is on {self.host}, which shows no videos", f"Use {HOME}/watch?v=ID."
        return "is a page of YouTube, not a video", f"Videos are at {HOME}/watch?v=ID."


def _is_name(text: str) -> bool:
    # Handles may be in any script, but without characters that would change the path.
    return 0 < len(text) <= 100 and all(mark.isalnum() or mark in "._-·" for mark in text)


def _list_identity(list_id: str, url: str) -> Identity:
    return Identity(YouTubeSource.name, f"{YouTubeSource.name}-playlist:{list_id}", url, url)


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The URL {problem}. {remedy}",
        violations={"url": f"{problem}. {remedy}"},
    )
