"""What a response is: a file, a page, a manifest or none of these, by its first bytes. Pure.

The Content-Type decides only about bytes that do not tell: servers call media `text/plain`, and
manifests whatever they like.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.transfer.headers import PAGES, PageResponse, media_type

START_BYTES: Final = 1024
MARKUP_BYTES: Final = 4096
"""How many bytes tell what begins with `<`, which may have comments first."""

_NEVER_MEDIA: Final = re.compile(
    r"(?:text|image|font|model|message|multipart)/.*"
    r"|(?:application|audio|video)/(?:json|xml|pdf|zip|gzip|javascript|ecmascript|x-javascript"
    r"|x-www-form-urlencoded|x-tar|x-bittorrent|wasm|(?:x-|vnd\.apple\.)?mpegurl|.*\+(?:json|xml|zip))"
)
# Content of these types is text, so it is none of them if it is not.
_TEXTS: Final = re.compile(
    r"text/.*|(?:application|audio|video)/(?:json|xml|javascript|ecmascript|x-javascript"
    r"|x-www-form-urlencoded|(?:x-|vnd\.apple\.)?mpegurl|.*\+(?:json|xml))"
)
_MANIFESTS: Final = frozenset(
    {
        *("application/vnd.apple.mpegurl", "application/x-mpegurl", "application/mpegurl"),
        *("audio/mpegurl", "audio/x-mpegurl", "application/dash+xml"),
    }
)

_BEFORE_MARKUP: Final = rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*"
_DASH: Final = re.compile(_BEFORE_MARKUP + rb"<(?:\w+:)?MPD[\s>]", re.DOTALL)
_FEED: Final = re.compile(_BEFORE_MARKUP + rb"(?:<\?.*?>\s*)*<rss[\s>]", re.DOTALL)
_PAGE: Final = re.compile(
    _BEFORE_MARKUP + rb"<(?:!doctype\s+html|html|head|body|script|title|meta|style)[\s>/]",
    re.DOTALL | re.IGNORECASE,
)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_BYTE_ORDER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")

_MAGICS: Final = (
    *(b"\x1a\x45\xdf\xa3", b"OggS", b"fLaC", b"ID3", b"FLV\x01", b"caff", b"wvpk", b"MAC "),
    *(b"TTA1", b".snd", b".RMF", b"#!AMR", b"DSD ", b"FRM8", b"MPCK", b"MP+", b"DKIF", b"riff"),
    *(b"\0\0\1\xba", b"\0\0\1\xb3", b"\x0b\x77", b"ADIF", b"NSVf", b"NSVs", b"tBaK"),
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),  # ASF
    bytes.fromhex("060e2b34"),  # MXF
)
_BOXES: Final = frozenset(
    (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"pnot")
)
_IMAGE_BRANDS: Final = frozenset((b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1"))
_CHUNKS: Final = frozenset((b"WAVE", b"AVI ", b"AMV ", b"AIFF", b"AIFC", b"8SVX"))
# Packet size, and where the first sync byte is.
_TRANSPORT_STREAMS: Final = ((188, 0), (192, 4), (204, 0))


class Kind(enum.Enum):
    """What bytes seem to begin."""

    MEDIA = "media"
    MANIFEST = "a manifest"
    """Of HLS (RFC 8216, section 4) or DASH."""
    PAGE = "a page"
    """HTML, or the RSS feed of a podcast."""
    TEXT = "text"
    BINARY = "no text"


class ManifestResponse(PageResponse):
    """The response is a manifest of HLS or DASH."""


def kind_of(start: bytes) -> Kind:
    """Return what `start` begins: START_BYTES of a file, or all of it; MARKUP_BYTES of markup."""
    if _is_media(start):
        return Kind.MEDIA
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"#EXTM3U") or _DASH.match(text):
        return Kind.MANIFEST
    if _PAGE.match(text) or _FEED.match(text):
        return Kind.PAGE
    is_text = start.startswith(_BYTE_ORDER_MARKS) or not _CONTROL.search(start)
    return Kind.TEXT if is_text else Kind.BINARY


def check_content(start: bytes, headers: Mapping[str, str], host: str) -> None:
    """Raise Failure NOT_MEDIA if the body that begins with `start` is not worth receiving.

    It is a PageResponse if the extractor may read the body, and a ManifestResponse for a manifest.
    """
    kind, content_type = kind_of(start), media_type(headers)
    if kind is Kind.MEDIA:
        return
    metadata = {"content_type": content_type}
    if kind is Kind.MANIFEST or (kind is Kind.TEXT and content_type in _MANIFESTS):
        raise ManifestResponse(
            reason_pb2.REASON_NOT_MEDIA,
            f"{host} sends a manifest, which is not media.",
            metadata=metadata,
        )
    if kind is Kind.PAGE or content_type in PAGES:
        raise PageResponse(
            reason_pb2.REASON_NOT_MEDIA,
            f"{host} sends a page, which is not audio or video. "
            "Use the URL of the media file itself.",
            metadata=metadata,
        )
    if is_contradicted(kind, content_type) or not _NEVER_MEDIA.fullmatch(content_type):
        return
    raise Failure(
        reason_pb2.REASON_NOT_MEDIA,
        f"{host} sends {content_type}, which is not audio or video. "
        "Use the URL of the media file itself.",
        metadata=metadata,
    )


def is_contradicted(kind: Kind, content_type: str) -> bool:
    """Return whether content of `kind` cannot have this type, which does not name media."""
    if kind is Kind.MEDIA:
        return bool(_NEVER_MEDIA.fullmatch(content_type))
    return kind is Kind.BINARY and bool(_TEXTS.fullmatch(content_type))


def _is_media(start: bytes) -> bool:
    if start.startswith(_MAGICS):
        return True
    if start[4:8] in _BOXES:
        return start[4:8] != b"ftyp" or start[8:12] not in _IMAGE_BRANDS
    if start[:4] in {b"RIFF", b"RF64", b"RIFX", b"FORM"}:
        return start[8:12] in _CHUNKS
    return _begins_frame(start) or any(
        len(start) > offset + 4 * packet and set(start[offset::packet][:5]) == {0x47}
        for packet, offset in _TRANSPORT_STREAMS
    )


def _begins_frame(start: bytes) -> bool:
    """Return whether `start` begins a frame of MPEG audio layer II or III, or of AAC in ADTS."""
    if len(start) < 4 or start[0] != 0xFF:
        return False
    if start[1] & 0xF6 == 0xF0:
        return (start[2] >> 2) & 0xF < 13  # the index of a sample rate of AAC
    is_layer = start[1] & 0xE0 == 0xE0 and (start[1] >> 1) & 3 in {1, 2}
    is_version = (start[1] >> 3) & 3 != 1
    return is_layer and is_version and start[2] >> 4 != 0xF and (start[2] >> 2) & 3 != 3
