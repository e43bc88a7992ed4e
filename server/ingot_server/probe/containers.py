"""Tells from the structure of a file what it seems to be, and whether its end is missing.

FFmpeg opens most files that were cut off without an error. But containers announce sizes, so a few
reads are enough to tell. Everything here is pure over a seekable binary file, and reads a bounded
number of small pieces, whatever the file claims. Formats without a structure pass.

Formats: ISO/IEC 14496-12 (mp4), RFC 8794 and 9559 (Matroska), RIFF and OpenDML (WAV, AVI), EBU Tech
3306 (RF64), EA IFF 85 (AIFF), ASF 1.2, RFC 3533 (Ogg), ISO/IEC 13818-1 (MPEG-TS
and MPEG-PS).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import BinaryIO, Final

_MAX_PIECES: Final = 1_000_000
_TAIL_BYTES: Final = 4096
_OGG_PAGE_BYTES: Final = 27 + 255 + 255 * 255

_MP4_BOXES: Final = frozenset(
    b"ftyp styp moov moof mdat mfra sidx meta udta uuid free skip wide pnot emsg prft".split()
)
_EBML: Final = b"\x1a\x45\xdf\xa3"
_ELEMENTS: Final = {_EBML: "header", b"\x18\x53\x80\x67": "segment", b"\xec": "padding"}
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST: Final = 1

_STREAMED: Final = ("Ogg", "MPEG-TS", "MPEG-PS")
# Sizes for an unknown length. A size of 32 bits is that of the samples, or of them and the header.
_UNKNOWN_SIZES: Final = (0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER_BYTES: Final = 256
_SIZE_LIMIT: Final = 1 << 32
_PACK: Final = b"\0\0\1\xba"
_PROGRAM_END: Final = b"\xb9"
_PROGRAM_TAIL_BYTES: Final = 256 << 10

_MAGICS: Final = (
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"BM", "an image"),
    (b"II*\0", "an image"),
    (b"MM\0*", "an image"),
    (b"\xff\x0a", "an image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a compressed file"),
    (b"Rar!", "an archive"),
    (b"7z\xbc\xaf", "an archive"),
    (b"\x7fELF", "a program"),
)
_IMAGE_BRANDS: Final = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1"})
_TEXTS: Final = (
    (b"#extm3u", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"[playlist]", "a playlist"),
    (b"<?xml", "an XML document"),
    (b"webvtt", "subtitles"),
    (b"[script info]", "subtitles"),
)
_WEBM: Final = re.compile(rb"B\x82(?:\x84|[\x00-\x40]\x00*\x04)webm")
_CUE: Final = re.compile(rb"\d+\r?\n\d\d:\d\d:\d\d,\d{3} --> ")
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class Structure:
    """What `examine` found."""

    kind: str
    """Empty if the file does not begin like a container that is known here."""
    problem: str
    """What is missing; empty if nothing is."""
    is_unsized: bool = False
    """Whether the sizes were written before the length was known, as programs do in a pipe."""
    has_wrapped_sizes: bool = False
    """Whether the file is larger than its sizes can say."""

    @property
    def is_streamed(self) -> bool:
        """Whether the format can be written, and read, without knowing where it will end."""
        return self.is_unsized or self.kind in _STREAMED


def examine(file: BinaryIO) -> Structure:
    """Check the sizes that a container announces. Seeks, and reads a few bytes at a time."""
    size = file.seek(0, os.SEEK_END)
    head = _read(file, 0, 1024)
    if head[4:8] in _MP4_BOXES:
        return Structure("mp4", _mp4(file, size))
    if head.startswith(_EBML):
        return Structure("Matroska", _matroska(file, size))
    if head[:4] in {b"RIFF", b"RF64"} and head[8:12] in {b"WAVE", b"AVI ", b"AMV "}:
        return _riff(file, size)
    if head.startswith(b"FORM") and head[8:12] in {b"AIFF", b"AIFC"}:
        end = 8 + int.from_bytes(head[4:8])
        return Structure("AIFF", _past("FORM chunk", end, size))
    if head.startswith(_ASF):
        return Structure("ASF", _asf(file, size))
    if head.startswith(b"OggS"):
        return Structure("Ogg", _ogg(file, size))
    if head.startswith(_PACK):
        return Structure("MPEG-PS", _program_stream(file, size))
    for packet, offset in ((188, 0), (192, 4), (204, 0)):
        if len(head) > offset + 4 * packet and set(head[offset::packet][:5]) == {0x47}:
            rest = size % packet
            problem = f"its last packet has {rest} of {packet} bytes" if rest else ""
            return Structure("MPEG-TS", problem)
    return Structure("", "")


def ends_in_zeros(file: BinaryIO) -> bool:
    """Return whether the file ends in zeros, like one that was allocated before it was written.

    Uncompressed silence and the padding behind an mp4 index look the same; do not use it for them.
    """
    size = file.seek(0, os.SEEK_END)
    length = min(_TAIL_BYTES, max(64, size // 8), size)
    tail = _read(file, size - length, length)
    return bool(tail) and not any(tail)


def is_webm(head: bytes) -> bool:
    """Return whether the header of a Matroska file says that it is WebM (the element DocType)."""
    return head.startswith(_EBML) and _WEBM.search(head) is not None


def resemblance(head: bytes) -> str:
    """Return what a file that is not media seems to be, by its first bytes; empty if unknown."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
        return "an image"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "an image"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text[:1024].lower()
    if b"<svg" in lower and lower.startswith(b"<"):
        return "an image"
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page"
    for start, name in _TEXTS:
        if lower.startswith(start):
            return name
    if _CUE.match(text):
        return "subtitles"
    return "text" if text and not _BINARY.search(head) else ""


def _mp4(file: BinaryIO, size: int) -> str:
    position, index = 0, False
    for _ in range(_MAX_PIECES):
        header = _read(file, position, 16)
        length, kind, start = int.from_bytes(header[:4]), header[4:8], 8
        if length == 1:
            length, start = int.from_bytes(header[8:16]), 16
        elif length == 0:
            length = size - position
        # Bytes that a program appended behind the last box pass.
        if kind not in _MP4_BOXES or length < start:
            break
        position += length
        index = index or kind in {b"moov", b"moof"}
        if position > size:
            return _past(f"{kind.decode()} box", position, size)
    return "" if index else "it has no index (moov box)"


def _matroska(file: BinaryIO, size: int) -> str:
    """Check the EBML header and the segments, up to one of unknown size, as live streams have."""
    position = 0
    for _ in range(_MAX_PIECES):
        header = _read(file, position, 12)
        id_length = _vint_length(header)
        size_length = _vint_length(header[id_length:])
        body = id_length + size_length
        name = _ELEMENTS.get(header[:id_length])
        if name is None or size_length > 8 or body > len(header):
            return ""
        mask = (1 << (7 * size_length)) - 1
        length = int.from_bytes(header[id_length:body]) & mask
        if length == mask:
            return ""
        position += body + length
        if position > size:
            return _past(name, position, size)
    return ""


def _vint_length(number: bytes) -> int:
    """Return how many bytes the EBML number at the front has; 9 if there is none."""
    return 9 - number[0].bit_length() if number else 9


def _riff(file: BinaryIO, size: int) -> Structure:
    """Check the chain of RIFF chunks; OpenDML has one per GB."""
    position = 0
    for _ in range(_MAX_PIECES):
        header = _read(file, position, 28)
        if header[:4] not in {b"RIFF", b"RF64"} or len(header) < 12:
            rest = size - position
            return Structure(
                "RIFF",
                "",
                is_unsized=rest > 0 and position <= _HEADER_BYTES,
                has_wrapped_sizes=rest > _SIZE_LIMIT // 2 and _is_near(rest % _SIZE_LIMIT),
            )
        length = int.from_bytes(header[4:8], "little")
        if header[:4] == b"RF64" and header[12:16] == b"ds64":
            length = int.from_bytes(header[20:28], "little")
        elif not length or (8 + length > size and _is_unknown(length)):
            return Structure("RIFF", "", is_unsized=True)
        position += 8 + length
        if position > size:
            return Structure("RIFF", _past("RIFF chunk", position, size))
        position += length % 2
    return Structure("RIFF", "")


def _is_unknown(length: int) -> bool:
    """Return whether a RIFF size is one of those that mean an unknown length, or near it."""
    return any(_is_near((length - unknown) % _SIZE_LIMIT) for unknown in _UNKNOWN_SIZES)


def _is_near(difference: int) -> bool:
    """Return whether a difference, modulo 2^32, is less than a header."""
    return min(difference, _SIZE_LIMIT - difference) <= _HEADER_BYTES


def _asf(file: BinaryIO, size: int) -> str:
    """Check the file size in the properties object, unless the broadcast flag voids it."""
    header_end = int.from_bytes(_read(file, 16, 8), "little")
    position = 30
    for _ in range(_MAX_PIECES):
        head = _read(file, position, 92)
        if len(head) < 24 or position >= header_end:
            return ""
        if head[:16] == _ASF_PROPERTIES and len(head) == 92:
            if int.from_bytes(head[88:92], "little") & _ASF_BROADCAST:
                return ""
            return _past("file", int.from_bytes(head[40:48], "little"), size)
        length = int.from_bytes(head[16:24], "little")
        if length < 24:
            return ""
        position += length
    return ""


def _ogg(file: BinaryIO, size: int) -> str:
    """Check that the last page is complete and marked as the last one of its stream."""
    start = max(0, size - 2 * _OGG_PAGE_BYTES)
    tail = _read(file, start, 2 * _OGG_PAGE_BYTES)
    position = tail.rfind(b"OggS")
    header = tail[position : position + 27]
    if position < 0:
        return ""
    if len(header) < 27:
        return "its last page is cut off"
    segments = tail[position + 27 : position + 27 + header[26]]
    if len(segments) < header[26] or position + 27 + header[26] + sum(segments) > len(tail):
        return "its last page is cut off"
    return "" if header[5] & 4 else "its stream has no last page"


def _program_stream(file: BinaryIO, size: int) -> str:
    """Check the lengths that the packets announce, from the first pack near the end on."""
    start = max(0, size - _PROGRAM_TAIL_BYTES)
    tail = _read(file, start, _PROGRAM_TAIL_BYTES)
    position = tail.find(_PACK)
    while position >= 0 and tail.startswith(_PACK[:3], position):
        header = tail[position : position + 14]
        if header.startswith(_PACK):
            # MPEG-2 has the bits 01 here, and the length of its stuffing in the 14th byte.
            is_mpeg2 = len(header) == 14 and header[4] >> 6 == 1
            position += 14 + (header[13] & 7) if is_mpeg2 else 12
        elif header[3:4] == _PROGRAM_END:
            return ""
        else:
            position += 6 + int.from_bytes(header[4:6])
        if position > len(tail):
            return _past("last packet", start + position, size)
    return ""


def _past(what: str, end: int, size: int) -> str:
    return f"its {what} should end at byte {end}, but the file has {size}" if end > size else ""


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    if position >= 1 << 63:
        return b""  # No file is that large, and seek would raise.
    file.seek(position)
    return file.read(length)
