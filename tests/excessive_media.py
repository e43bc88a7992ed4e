"""Small files whose indexes announce far more than they hold; ISO/IEC 14496-12 and RFC 9559."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tests.media import media

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_TYPE = b"isom\0\0\2\0isomiso2mp41"
_FIRST_SAMPLE = 8 + len(_TYPE) + 8
_SIDE = 16


def frame() -> bytes:
    """A JPEG of 16 x 16 pixels, which is a whole frame of video."""
    return media("picture_small.jpg").read_bytes()


def mp4(*, frames: int, rate: int, chunks: int = 1, tracks: int = 1) -> bytes:
    """Video in MJPEG. All chunks are the same bytes of the file, which has one chunk of frames.

    `frames` is a multiple of `chunks`. More than 1000 frames of a chunk are announced alone.
    """
    one, per_chunk = frame(), frames // chunks
    milliseconds = min(frames * 1000 // rate, 0xFFFFFFFF)
    movie = _full(b"mvhd", struct.pack(">4I", 0, 0, 1000, milliseconds), bytes(78), b"\0\1")
    found = (
        _track(number + 1, frames, rate, chunks, per_chunk, len(one)) for number in range(tracks)
    )
    data = _box(b"mdat", one * min(per_chunk, 1000))
    return _box(b"ftyp", _TYPE) + data + _box(b"moov", movie, *found)


def matroska(
    *, tracks: int, frame_ns: int = 0, times_ms: Iterable[int] = range(0, 2000, 40)
) -> bytes:
    """Video in MJPEG, all of whose frames are in the first track; `frame_ns` is as announced."""
    one = frame()
    entries = (_entry(number + 1, frame_ns) for number in range(tracks))
    times = list(times_ms)
    blocks = (_element("A3", b"\x81" + struct.pack(">hB", time, 0x80) + one) for time in times)
    kind = _element("4282", b"matroska")
    information = (_element("2AD7B1", b"\x0f\x42\x40"), _element("4489", struct.pack(">d", 2000)))
    segment = (
        _element("1549A966", *information),
        _element("1654AE6B", *entries),
        _element("1F43B675", _element("E7", b"\0"), *blocks),
    )
    return _element("1A45DFA3", kind) + _element("18538067", *segment)


def _track(number: int, frames: int, rate: int, chunks: int, per_chunk: int, size: int) -> bytes:
    entry = _box(
        *(b"jpeg", bytes(6), b"\0\1", bytes(16), struct.pack(">HH", _SIDE, _SIDE)),
        struct.pack(">IIIH32xHh", 0x480000, 0x480000, 0, 1, 24, -1),
    )
    samples = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _full(b"stts", struct.pack(">III", 1, frames, 1)),
        _full(b"stsc", struct.pack(">4I", 1, 1, per_chunk, 1)),
        _full(b"stsz", struct.pack(">II", size, frames)),
        _full(b"stco", struct.pack(">I", chunks), struct.pack(">I", _FIRST_SAMPLE) * chunks),
    )
    reference = _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))
    information = _box(b"minf", _full(b"vmhd", bytes(8)), _box(b"dinf", reference), samples)
    header = _full(b"mdhd", struct.pack(">4IHH", 0, 0, rate, frames, 0x55C4, 0))
    handler = _full(b"hdlr", struct.pack(">I4s12x", 0, b"vide"), b"\0")
    shown = struct.pack(">II", _SIDE << 16, _SIDE << 16)
    place = _full(b"tkhd", struct.pack(">5I", 0, 0, number, 0, 0), bytes(16), _MATRIX, shown)
    return _box(b"trak", place, _box(b"mdia", header, handler, information))


def _entry(number: int, frame_ns: int) -> bytes:
    return _element(
        "AE",
        _element("D7", number.to_bytes(3)),
        _element("73C5", number.to_bytes(3)),
        _element("83", b"\1"),
        _element("86", b"V_MJPEG"),
        _element("23E383", frame_ns.to_bytes(4)) if frame_ns else b"",
        _element("E0", _element("B0", bytes([_SIDE])), _element("BA", bytes([_SIDE]))),
    )


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _element(identity: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes.fromhex(identity) + struct.pack(">Q", len(body) | 1 << 56) + body
