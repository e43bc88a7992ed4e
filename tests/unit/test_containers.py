from __future__ import annotations

import io
import random
import struct
import time

import pytest

from ingot_server.probe.containers import (
    ends_in_zeros,
    examine,
    is_webm,
    resemblance,
)
from ingot_server.probe.frames import frame_bytes


def box(kind: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", 8 + len(body) if size is None else size) + kind + body


def large_box(kind: bytes, body: bytes, size: int) -> bytes:
    return struct.pack(">I", 1) + kind + struct.pack(">Q", size) + body


def element(identity: bytes, body: bytes, size: int | None = None) -> bytes:
    return identity + struct.pack(">Q", 1 << 56 | (len(body) if size is None else size)) + body


def riff(kind: bytes, body: bytes, size: int | None = None, name: bytes = b"RIFF") -> bytes:
    return name + struct.pack("<I", 4 + len(body) if size is None else size) + kind + body


def asf(size: int, flags: int = 0) -> bytes:
    properties = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365") + struct.pack("<Q", 104)
    properties += bytes(16) + struct.pack("<Q", size) + bytes(40) + struct.pack("<I", flags)
    body = struct.pack("<IBB", 1, 1, 2) + properties + bytes(12)
    head = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    return head + struct.pack("<Q", 24 + len(body)) + body


def page(body: bytes, flags: int) -> bytes:
    head = b"OggS\0" + bytes([flags]) + bytes(20)
    return head + bytes([1, len(body)]) + body


FTYP = box(b"ftyp", b"isom\0\0\2\0")
MOOV = box(b"moov", bytes(8))
EBML = element(b"\x1a\x45\xdf\xa3", b"B\x82\x84webm")
SEGMENT = b"\x18\x53\x80\x67"
PACK = b"\0\0\1\xba\x44" + bytes(8) + b"\xf8"
PES = b"\0\0\1\xe0\0\x10" + bytes(16)

WHOLE = {
    "mp4": ("mp4", FTYP + MOOV + box(b"mdat", b"x" * 50)),
    "mp4 with 64-bit sizes": ("mp4", FTYP + MOOV + large_box(b"mdat", b"x" * 50, 66)),
    "mp4 whose last box ends with the file": ("mp4", FTYP + MOOV + box(b"mdat", b"x" * 9, 0)),
    "fragments": ("mp4", FTYP + box(b"moof", b"x") + box(b"mdat", b"x")),
    "mp4 with a tag appended": ("mp4", FTYP + MOOV + box(b"mdat", b"x") + b"TAGTitle" + bytes(99)),
    "mp4 with a few zeros appended": ("mp4", FTYP + MOOV + box(b"mdat", b"x") + bytes(13)),
    "mkv": ("Matroska", EBML + element(SEGMENT, b"x" * 50)),
    "mkv of unknown size": ("Matroska", EBML + SEGMENT + b"\x01" + b"\xff" * 7 + b"x" * 50),
    "mkv of unknown size in one byte": ("Matroska", EBML + SEGMENT + b"\xff" + b"x" * 50),
    "wav": ("RIFF", riff(b"WAVE", b"x" * 50)),
    "wav of unknown size": ("RIFF", riff(b"WAVE", b"x" * 50, 0xFFFFFFFF)),
    "wav without the last padding": ("RIFF", riff(b"WAVE", b"x" * 51)),
    "rf64": (
        "RIFF",
        riff(b"WAVE", b"ds64" + struct.pack("<IQ", 28, 66) + b"x" * 50, 0xFFFFFFFF, b"RF64"),
    ),
    "avi in two parts": ("RIFF", riff(b"AVI ", b"x" * 50) + riff(b"AVIX", b"x" * 50)),
    "aiff": ("AIFF", b"FORM" + struct.pack(">I", 54) + b"AIFF" + b"x" * 50),
    "asf": ("ASF", asf(134)),
    "asf of unknown size": ("ASF", asf(1 << 40, flags=1)),
    "ogg": ("Ogg", page(b"x" * 50, 2) + page(b"x" * 50, 4)),
    "ts": ("MPEG-TS", (b"G" + bytes(187)) * 20),
    "m2ts": ("MPEG-TS", (b"\0\0\0\0G" + bytes(187)) * 20),
    "ps": ("MPEG-PS", (PACK + PES) * 20),
    "ps with its end": ("MPEG-PS", (PACK + PES) * 20 + b"\0\0\1\xb9"),
    "nothing known": ("", b"hello" * 100),
    "nothing": ("", b""),
}

CUT = {
    "mdat past the end": FTYP + MOOV + box(b"mdat", b"x" * 50, 1000),
    "mdat far past the end": FTYP + MOOV + large_box(b"mdat", b"x" * 50, (1 << 64) - 1),
    "no moov": FTYP + box(b"mdat", b"x" * 50),
    "no moov but zeros": FTYP + box(b"mdat", b"x" * 50) + bytes(5000),
    "segment past the end": EBML + element(SEGMENT, b"x" * 50, 51),
    "segment far past the end": EBML + element(SEGMENT, b"x" * 50, (1 << 56) - 2),
    "riff past the end": riff(b"WAVE", b"x" * 50, 500),
    "rf64 past the end": riff(
        b"WAVE", b"ds64" + struct.pack("<IQ", 28, 1 << 63) + b"x" * 50, 0xFFFFFFFF, b"RF64"
    ),
    "second riff past the end": riff(b"AVI ", b"x" * 50) + riff(b"AVIX", b"x" * 50, 500),
    "form past the end": b"FORM" + struct.pack(">I", 500) + b"AIFF" + b"x" * 50,
    "asf past the end": asf(1 << 40),
    "ogg without its last page": page(b"x" * 50, 2) + page(b"x" * 50, 0),
    "ogg with half a page": page(b"x" * 50, 2) + page(b"x" * 50, 4)[:40],
    "ogg with half a header": page(b"x" * 50, 2) + page(b"x" * 50, 4)[:20],
    "ts with half a packet": (b"G" + bytes(187)) * 20 + b"G" + bytes(99),
    "ps with half a packet": (PACK + PES) * 20 + PACK + PES[:9],
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_have_no_problem(name: str) -> None:
    kind, data = WHOLE[name]
    found = examine(io.BytesIO(data))
    assert (found.kind, found.problem) == (kind, "")


@pytest.mark.parametrize("name", CUT)
def test_cut_files_have_one(name: str) -> None:
    assert examine(io.BytesIO(CUT[name])).problem


class Endless(io.BytesIO):
    """A file of 2**62 bytes whose content is one pattern over and over; counts its reads."""

    def __init__(self, head: bytes, pattern: bytes) -> None:
        super().__init__()
        self.head, self.pattern = head, pattern
        self.position = self.reads = 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.position = offset + (1 << 62 if whence == 2 else 0)
        return self.position

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 20
        self.reads += 1
        begin = self.position
        self.position += size
        if begin < len(self.head):
            return (self.head[begin:] + self.pattern * size)[:size]
        shift = (begin - len(self.head)) % len(self.pattern)
        return (self.pattern * (size // len(self.pattern) + 2))[shift : shift + size]


@pytest.mark.parametrize(
    ("head", "pattern"),
    [
        (FTYP, box(b"free")),
        (EBML, b"\xec\x80"),
        (riff(b"WAVE", b"", 4), riff(b"WAVE", b"", 4)),
        (asf(0)[:30], b"x" * 16 + struct.pack("<Q", 24)),
        (PACK, PES),
    ],
)
def test_hostile_sizes_end(head: bytes, pattern: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot_server.probe.containers._MAX_PIECES", 1000)
    file = Endless(head, pattern)
    examine(file)
    assert file.reads < 1100


def test_any_bytes_are_answered_quickly() -> None:
    dice = random.Random(7)
    samples = [data for _, data in WHOLE.values()] + list(CUT.values())
    begin = time.process_time()
    for _ in range(2000):
        data = bytearray(dice.choice(samples))
        for _ in range(dice.randrange(1, 9)):
            if data:
                data[dice.randrange(len(data))] = dice.choice((0, 1, 0xFF, dice.randrange(256)))
        examine(io.BytesIO(bytes(data)))
        resemblance(bytes(data))
    assert time.process_time() - begin < 5


def test_a_tail_of_zeros_is_seen() -> None:
    assert ends_in_zeros(io.BytesIO(b"x" * 10_000 + bytes(5000)))
    assert not ends_in_zeros(io.BytesIO(b"x" * 10_000 + bytes(500)))
    assert not ends_in_zeros(io.BytesIO(b""))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\xef\xbb\xbf\r\n <HTML>", "a web page"),
        (b'<?xml version="1.0"?><svg xmlns="x">', "an image"),
        (b"<svg>", "an image"),
        (b"<?xml version='1.0'?><MPD>", "an XML document"),
        (b"#EXTM3U\n/etc/passwd", "a playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd", "a playlist"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nHello", "subtitles"),
        (b"WEBVTT\n", "subtitles"),
        (b"Error: not found", "text"),
        ("größer".encode(), "text"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"GIF89a", "an image"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "an image"),
        (b"\0\0\0\x1cftypavif", "an image"),
        (b"%PDF-1.7", "a PDF document"),
        (FTYP + MOOV, ""),
        (EBML, ""),
        (b"ID3\x04\0\0\0\0\0\0", ""),
        (b"", ""),
    ],
)
def test_a_file_that_is_not_media_is_named(head: bytes, expected: str) -> None:
    assert resemblance(head) == expected


def test_webm_is_distinguished_from_matroska() -> None:
    assert is_webm(EBML)
    assert not is_webm(element(b"\x1a\x45\xdf\xa3", b"B\x82\x88matroska"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("fffb52c40000", 209),  # MPEG-1 layer III, 64 kbit/s, 44.1 kHz, padded
        ("fffb90000000", 417),  # 128 kbit/s
        ("fff380000000", 208),  # MPEG-2 layer III, 64 kbit/s, 22.05 kHz
        ("fffd80000000", 417),  # MPEG-1 layer II, 128 kbit/s
        ("ffff40000000", 136 - 136 % 4),  # MPEG-1 layer I, 128 kbit/s, 44.1 kHz
        ("fff150400c1f", 96),  # ADTS
        ("0b77020a4d40", 418),  # AC-3, 96 kbit/s, 44.1 kHz
        ("fffb02c40000", 0),  # free format
        ("544147000000", 0),
        ("ff", 0),
    ],
)
def test_frames_say_how_long_they_are(header: str, expected: int) -> None:
    assert frame_bytes(bytes.fromhex(header)) == expected
