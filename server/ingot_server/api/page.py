"""The web page: its files, read and compressed once, and the headers that fence it in.

    /                        index.html
    /assets/NAME-HASH.EXT    what index.html loads; the name changes with the content
    /icon.svg, ...           other files, which have a fixed name

The places of the page are behind the `#` of its address, so they need no paths here. The files are
the build of clients/dashboard and part of this package, so running Ingot needs no Node. The
Content-Security-Policy lets the page reach this server and the S3 servers that signed links lead
to, and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

Headers = list[tuple[bytes, bytes]]

_INDEX: Final = "/index.html"
_HASHED: Final = "/assets/"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_COMPRESSED_ALREADY: Final = frozenset({".png"})

_FENCE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class PageResponse:
    """The response to a request for a file of the page."""

    status: HTTPStatus
    headers: Headers
    body: bytes = b""


class Page:
    """The files of the page. `link_origins` are the origins of signed links.

    `folder` has the files; None means those of this package.
    """

    def __init__(
        self, link_origins: Collection[str] = (), folder: Traversable | None = None
    ) -> None:
        policy = content_security_policy(link_origins).encode()
        folder = folder or files("ingot_server").joinpath("page")
        self._files = {
            path: _File.of(path, content, policy) for path, content in _read(folder, "/")
        }

    def response(self, path: str, headers: Mapping[bytes, bytes]) -> PageResponse | None:
        """Return the response to a GET or HEAD of `path`, or None if that is not of the page.

        `headers` are those of the request, by lower-case name.
        """
        found = self._files.get(_INDEX if path == "/" else path)
        return None if found is None else found.response(headers)


@dataclass(frozen=True, slots=True)
class _File:
    """A file, its compressed form if that is smaller, and the headers of both."""

    headers: Headers
    content_type: bytes
    plain: bytes
    plain_etag: bytes
    compressed: bytes | None
    compressed_etag: bytes

    @classmethod
    def of(cls, path: str, content: bytes, policy: bytes) -> _File:
        suffix = PurePosixPath(path).suffix
        forever = path.startswith(_HASHED)
        caching = b"public, max-age=31536000, immutable" if forever else b"no-cache"
        headers: Headers = [(b"cache-control", caching), *_FENCE]
        if suffix == ".html":
            headers.append((b"content-security-policy", policy))
        # The policy is part of what a browser keeps, so a new one is a new version.
        digest = hashlib.sha256(content + policy).hexdigest()[:32].encode()
        compressed = None
        if suffix not in _COMPRESSED_ALREADY:
            headers.append((b"vary", b"Accept-Encoding"))
            smaller = gzip.compress(content, mtime=0)
            compressed = smaller if len(smaller) < len(content) else None
        return cls(
            headers=headers,
            content_type=_TYPES[suffix].encode(),
            plain=content,
            plain_etag=b'"%s"' % digest,
            compressed=compressed,
            compressed_etag=b'"%s-gzip"' % digest,
        )

    def response(self, headers: Mapping[bytes, bytes]) -> PageResponse:
        body, etag, encoding = self.plain, self.plain_etag, []
        if self.compressed is not None and accepts_gzip(headers.get(b"accept-encoding", b"")):
            body, etag = self.compressed, self.compressed_etag
            encoding = [(b"content-encoding", b"gzip")]
        common = [*self.headers, (b"etag", etag)]
        if has_etag(headers.get(b"if-none-match", b""), etag):
            return PageResponse(HTTPStatus.NOT_MODIFIED, common)
        described = [
            (b"content-type", self.content_type),
            (b"content-length", str(len(body)).encode()),
        ]
        return PageResponse(HTTPStatus.OK, [*described, *encoding, *common], body)


def content_security_policy(link_origins: Collection[str]) -> str:
    """Return the policy of a page that loads media from `link_origins` and sends uploads there."""
    s3 = "".join(f" {origin}" for origin in link_origins)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self'{s3}",
            f"media-src 'self'{s3}",
            f"connect-src 'self'{s3}",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Return whether an Accept-Encoding allows gzip (RFC 9110, section 12.5.3)."""
    qualities: dict[str, bool] = {}
    for each in accept_encoding.decode("latin-1").lower().split(","):
        coding, *parameters = (part.strip() for part in each.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
        qualities[coding] = not refused
    return qualities.get("gzip", qualities.get("*", False))


def has_etag(if_none_match: bytes, etag: bytes) -> bool:
    """Return whether an If-None-Match names `etag` (RFC 9110, section 13.1.2)."""
    named = [each.strip().removeprefix(b"W/") for each in if_none_match.split(b",")]
    return etag in named or b"*" in named


def _read(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of each file in `folder`, whose own path is `path`."""
    for each in folder.iterdir():
        if each.is_dir():
            yield from _read(each, f"{path}{each.name}/")
        else:
            yield path + each.name, each.read_bytes()
