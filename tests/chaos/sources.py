"""The web sites of a run: small media whose every version is known, served well and badly."""

from __future__ import annotations

import hashlib
import json
import random
import time
from dataclasses import dataclass, field

from tests.media import media
from tests.mediasite import serve_presentation
from tests.origin import Origin, Page

_MEDIA = ("tiny.mp4", "plain.mp4", "faststart.mp4", "sound.m4a", "silent.mp4")
_ITEM = "<item><title>{0}</title><link>{1}</link><enclosure url='{1}' type='video/mp4'/></item>"
# Above this the parts of an upload begin: such a file leaves a multipart upload when it breaks off.
_LARGE_BYTES = 6 << 20


@dataclass(slots=True)
class Served:
    """A URL, and the contents it has had."""

    url: str
    path: str
    origin: Origin
    is_list: bool = False
    is_page: bool = False
    """Whether it is a page that an extractor reads; each publication is a new version of it."""
    versions: list[str] = field(default_factory=list)
    """SHA-256 of each, the latest last."""


class Sources:
    """Publishes media on the origins, and knows everything that was ever published."""

    def __init__(self, origins: list[Origin], chance: random.Random) -> None:
        self.served: dict[str, Served] = {}
        self.contents: dict[str, bytes] = {}
        """By SHA-256."""
        self.times: dict[str, float] = {}
        """When each was published."""
        self._origins = origins
        self._chance = chance
        self._number = 0

    def content(self) -> bytes:
        """A media file that differs from all others by a box that players skip."""
        self._number += 1
        whole = media(self._chance.choice(_MEDIA)).read_bytes()
        large = self._chance.random() < 0.04
        size = _LARGE_BYTES if large else self._chance.randrange(1 << 10, 200 << 10)
        mark = f"{self._number} {self._chance.random()} ".encode()
        filling = (mark * (size // len(mark) + 1))[:size]
        made = whole + (8 + size).to_bytes(4, "big") + b"free" + filling
        return self._note(made)

    def sound(self) -> bytes:
        """An MP3 file that differs from all others by its tag.

        Nothing in such a file says where it ends: only its source can tell that it is whole.
        """
        self._number += 1
        owner = f"{self._number} {self._chance.random()}".encode() + b"\0"
        frame = b"PRIV" + _synchsafe(len(owner)) + b"\0\0" + owner
        tag = b"ID3\4\0\0" + _synchsafe(len(frame)) + frame
        return self._note(tag + media("constant.mp3").read_bytes() * self._chance.randrange(1, 6))

    def _note(self, content: bytes) -> bytes:
        sha256 = _sha256(content)
        self.contents[sha256] = content
        self.times[sha256] = time.time()
        return content

    def publish(self) -> Served:
        """A new URL; most are served well, some slowly, badly or not at all for a while."""
        origin = self._chance.choice(self._origins)
        is_sound = self._chance.random() < 0.2
        content = self.sound() if is_sound else self.content()
        path = f"/{self._number}.{'mp3' if is_sound else 'mp4'}"
        page = Page(content, etag=f'"{self._number}"')
        behaviour = self._chance.random()
        if behaviour < 0.3:
            page.rate = len(content) / self._chance.uniform(0.5, 5)
        elif behaviour < 0.36:
            page.status, page.headers = 503, {"Retry-After": "1"}
        elif behaviour < 0.42:
            page.breaks = [self._chance.randrange(len(content)) for _ in range(2)]
        elif behaviour < 0.45:
            page.breaks_always = len(content) // 2
        elif behaviour < 0.48:
            page.chunked, page.breaks_always = True, len(content) // 2
        elif behaviour < 0.5:
            page.status = 404
        url = origin.serve(path, page)
        served = Served(url, path, origin, versions=[_sha256(content)])
        self.served[url] = served
        return served

    def change(self, served: Served) -> None:
        """Publish another version at the same URL, which is served well from now on."""
        content = self.sound() if served.path.endswith(".mp3") else self.content()
        served.versions.append(_sha256(content))
        served.origin.serve(served.path, Page(content, etag=f'"{self._number}"'))

    def change_url(self, url: str) -> None:
        """Publish another version of the file at a URL, if it is one of these sites."""
        if (served := self.served.get(url)) and not (served.is_page or served.is_list):
            self.change(served)

    def recover(self) -> None:
        """Let the pages that answer 503 answer with their files from now on."""
        for served in self.served.values():
            page = served.origin.pages[served.path]
            if page.status == 503:
                page.status, page.headers = 200, {}

    def publish_feed(self, entries: int) -> Served:
        """A podcast's feed of new media."""
        urls = [self.publish().url for _ in range(entries)]
        self._number += 1
        items = "".join(_ITEM.format(f"Episode {at}", url) for at, url in enumerate(urls))
        feed = f"<?xml version='1.0'?><rss version='2.0'><channel><title>Bells</title>{items}"
        origin, path = self._chance.choice(self._origins), f"/{self._number}.xml"
        page = Page(f"{feed}</channel></rss>".encode(), content_type="application/rss+xml")
        return Served(origin.serve(path, page), path, origin, is_list=True)

    def publish_page(self) -> Served:
        """A page whose media the extractor finds. There is one of them for each origin."""
        origin = self._chance.choice(self._origins)
        content = self.content()
        url = serve_presentation(origin, content, seconds=None)
        served = self.served.setdefault(url, Served(url, "/lecture.mp4", origin, is_page=True))
        served.versions.append(_sha256(content))
        return served

    def knows(self, sha256: str) -> bool:
        """Whether a source has ever served a file with this checksum."""
        return sha256 in self.contents

    def summary(self) -> str:
        requests = sum(len(origin.log) for origin in self._origins)
        return json.dumps({"urls": len(self.served), "requests": requests})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _synchsafe(size: int) -> bytes:
    """A length as ID3 tags have it: four bytes of seven bits (id3.org, ID3v2.4, 6.2)."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
