"""The source of direct HTTP: the URL is that of the file itself.

The key is the URL, normalised as in RFC 3986, section 6: two ways of writing one URL have the same
key, and URLs that a server could tell apart have different keys. What is requested is the URL as it
was written, because a server may compare it byte by byte with what it signed: `%2b` is not `%2B`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

import idna

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources.source import FetchMethod, Identity, SourceDefaults

MAX_URL_BYTES: Final = 8192
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# RFC 3986, appendix B. The scheme must look like one: `host:8080/...` has none.
_PARTS: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?!\d+(?:[/?#]|$))"
    r"(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.DOTALL,
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_ESCAPE_OR_OTHER: Final = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class HttpSource(SourceDefaults):
    """Accepts every `http` and `https` URL. The content behind one may change."""

    name: Final = "http"
    fetch_method: Final = FetchMethod.HTTP
    accepts: Final = ("https://<host>/<path>", "http://<host>/<path>")
    mutable = True
    has_own_ids = False
    has_public_host = True
    throttled_by_host = True
    may_be_list = True
    may_be_live = True
    has_selections = True
    has_side_files = True

    def identify(self, url: str) -> Identity | None:
        return identity(self.name, url)


def identity(source: str, url: str) -> Identity | None:
    """Return the identity that `url` has at `source` if its key is the URL; None if not HTTP.

    Raises Failure INVALID_REQUEST as `normalise` does.
    """
    parts = _split(url)
    if parts is None:
        return None
    normalised, written = _normalised(parts), _written(parts)
    fetch_url = "" if written == normalised else written
    return Identity(source, f"{source}:{normalised}", normalised, normalised, fetch_url)


def normalise(url: str) -> str | None:
    """Return the canonical form of `url`, in ASCII and without its fragment; None if not HTTP.

    Literal addresses of the old kind (`0x7f.1`) stay as they are: the egress guard knows them all.
    Raises Failure INVALID_REQUEST if `url` is not a URL, or is one that Ingot never accepts.
    """
    parts = _split(url)
    return None if parts is None else _normalised(parts)


def redirect_target(url: str, location: str) -> str | None:
    """Return the URL to request after `url`, as its server wrote it; None if it is not HTTP.

    `location` is a Location field, absolute or relative (RFC 3986, section 5.2). Blanks in it are
    encoded, as browsers do. Raises Failure INVALID_REQUEST as `normalise` does.
    """
    reference = location.strip(" \t").replace(" ", "%20").partition("#")[0]
    if not _SCHEME.match(reference):
        base = _PARTS.fullmatch(url)
        assert base is not None
        origin = f"{base['scheme']}:"
        if not reference.startswith("//"):
            origin += f"//{base['authority']}"
            if reference.startswith("?"):
                origin += base["path"]
            elif not reference:
                origin += base["path"] + ("" if base["query"] is None else f"?{base['query']}")
            elif not reference.startswith("/"):
                origin += base["path"].rpartition("/")[0] + "/"
        reference = origin + reference
    parts = _split(reference)
    return None if parts is None else _written(parts)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a URL of HTTP. The origin is normalised, the others are as they were written."""

    origin: str
    path: str
    query: str | None


def _split(url: str) -> _Parts | None:
    """Return the parts of `url`; None if it is not HTTP. Raises Failure INVALID_REQUEST."""
    text = url.strip(" \t\r\n")
    if not text:
        _refuse("is empty", "Give the URL of a media file, such as https://example.com/clip.mp4.")
    _check_length(text)
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text):
        _refuse(
            "contains a control character or a line break",
            "Remove it, or write it percent-encoded.",
        )
    if " " in text:
        _refuse("contains a blank", "Write it as %20.")
    parts = _PARTS.fullmatch(text)
    if parts is None:
        _refuse("has no scheme", "Begin it with http:// or https://.")
    scheme = parts["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        return None
    authority = parts["authority"]
    if not authority:
        _refuse("has no host", f"Write it as {scheme}://HOST/PATH.")
    origin = f"{scheme}://{_authority(authority, scheme)}"
    return _Parts(origin, parts["path"], parts["query"])


def _normalised(parts: _Parts) -> str:
    path = _without_dot_segments(_percent_normalised(parts.path)) or "/"
    query = _percent_normalised(parts.query or "")
    normalised = f"{parts.origin}{path}{'?' if query else ''}{query}"
    _check_length(normalised)
    return normalised


def _written(parts: _Parts) -> str:
    """Return the URL in ASCII, and without dot segments, which no client sends."""
    path = _without_dot_segments(parts.path) or "/"
    query = "" if parts.query is None else f"?{parts.query}"
    written = parts.origin + _NOT_ASCII.sub(_percent_encoded, path + query)
    _check_length(written)
    return written


def _percent_encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _authority(text: str, scheme: str) -> str:
    if "@" in text:
        _refuse("has user info before its host", "Remove the name and password and the `@`.")
    parts = _AUTHORITY.fullmatch(text)
    if parts is None:
        _refuse("has a malformed host", "Write HOST, HOST:PORT or [IPV6]:PORT.")
    host = parts["host"]
    if not host:
        _refuse("has no host", f"Write it as {scheme}://HOST/PATH.")
    host = _ipv6(host[1:-1]) if host.startswith("[") else _name(host)
    if not parts["port"]:
        return host
    port = int(parts["port"]) if re.fullmatch(r"[0-9]{1,9}", parts["port"]) else 0
    if not 0 < port < 1 << 16:
        _refuse(f"has the port {parts['port'][:20]!r}", "Use a number from 1 to 65535.")
    return host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        address = None
    if address is None or address.scope_id is not None:
        _refuse("has a malformed IPv6 address", "Write it as in http://[2001:db8::1]/, no zone.")
    # Python writes these so only since 3.13, and a key must not depend on that (RFC 5952, 5).
    mapped = address.ipv4_mapped
    return f"[::ffff:{mapped}]" if mapped else f"[{address.compressed}]"


def _name(host: str) -> str:
    try:
        name = unquote_to_bytes(host).decode().lower()
        if not name.isascii():
            mapped = idna.uts46_remap(name, std3_rules=False, transitional=False)
            name = ".".join(
                label if label.isascii() else idna.encode(label).decode()
                for label in mapped.split(".")
            )
    except (idna.IDNAError, UnicodeError):
        _refuse("has a host that is not a domain name", "Correct it, or write it in its xn-- form.")
    labels = name.removesuffix(".").split(".")
    if len(name.removesuffix(".")) > 253 or any(len(label) > 63 for label in labels):
        _refuse(
            "has a host that is too long", "A name has at most 253 characters, 63 between dots."
        )
    if not all(_LABEL.fullmatch(label) for label in labels):
        _refuse(
            "has a host that is not a domain name",
            "Use letters, digits, `-` and `_` between its dots, at least one.",
        )
    return name


def _percent_normalised(text: str) -> str:
    """Return `text` with unreserved characters plain, and those that a URL may not have encoded."""

    def replace(match: re.Match[str]) -> str:
        found = match[0]
        if len(found) == 3:
            character = chr(int(found[1:], 16))
            return character if character in _UNRESERVED else found.upper()
        return _percent_encoded(match)

    return _ESCAPE_OR_OTHER.sub(replace, text)


def _without_dot_segments(path: str) -> str:
    """Return an empty or absolute path as RFC 3986, section 5.2.4, says."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        dots = _dots(segment)
        if dots == "..":
            del kept[max(1, len(kept) - 1) :]
        elif dots != ".":
            kept.append(segment)
    if _dots(segments[-1]):
        kept.append("")
    return "/".join(kept)


def _dots(segment: str) -> str:
    """Return `.` or `..` if the segment is that, encoded or not; else an empty text."""
    dots = segment.lower().replace("%2e", ".")
    return dots if dots in {".", ".."} else ""


def _check_length(text: str) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_URL_BYTES:
        _refuse(f"has {size} bytes", f"At most {MAX_URL_BYTES} are allowed. Use a shorter one.")


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The URL {problem}. {remedy}",
        violations={"url": f"{problem}. {remedy}"},
    )
