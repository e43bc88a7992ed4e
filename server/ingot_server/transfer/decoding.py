"""Content codings (RFC 9110, section 8.4.1), decoded in pieces of a bounded size.

Ingot asks for none, but servers compress what they compressed before, or everything.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import brotli

PIECE_BYTES: Final = 256 << 10
_MOST_CODINGS: Final = 2
_GZIP: Final = b"\x1f\x8b"
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS


class UndecodableError(Exception):
    """The body is not in the coding that its server named."""


class Decoder(Protocol):
    """Decodes one coding."""

    @property
    def is_complete(self) -> bool:
        """Whether the end of the coded content was reached."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data`, the next coded bytes, decodes to. Raises UndecodableError."""


def codings(headers: Mapping[str, str]) -> list[str]:
    """Return the codings of a body in the order in which they were applied.

    Other values in use (`none`, `utf-8`, `aws-chunked`) do not name a coding of the body.
    """
    named = headers.get("Content-Encoding", "").lower().split(",")
    found = [coding.strip().removeprefix("x-") for coding in named]
    return [coding for coding in found if coding in _DECODERS or coding in _UNKNOWN]


def are_contradicted(names: list[str], start: bytes) -> bool:
    """Return whether a body that begins with `start` cannot have these codings."""
    return names[-1:] == ["gzip"] and not start.startswith(_GZIP)


def decoder(names: list[str]) -> Decoder | None:
    """Return the decoder for a body with these codings; None if Ingot has none."""
    if len(names) > _MOST_CODINGS or not set(names) <= set(_DECODERS):
        return None
    made: Decoder = _Identity()
    for name in names:
        made = _Chain(_DECODERS[name](), made)
    return made


class _Identity:
    is_complete = True

    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data


class _Chain:
    """Decodes with `outer` first, and the result of that with `inner`."""

    def __init__(self, outer: Decoder, inner: Decoder) -> None:
        self._outer = outer
        self._inner = inner

    @property
    def is_complete(self) -> bool:
        return self._outer.is_complete and self._inner.is_complete

    def decode(self, data: bytes) -> Iterator[bytes]:
        for piece in self._outer.decode(data):
            yield from self._inner.decode(piece)


class _Gzip:
    """Gzip, which may have several members (RFC 1952, section 2.2)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_FORMAT)

    @property
    def is_complete(self) -> bool:
        return self._member.eof

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                if not data.startswith(_GZIP):
                    return  # padding
                self._member = zlib.decompressobj(_GZIP_FORMAT)
            yield from _inflated(self._member, data)
            data = self._member.unused_data


class _Deflate:
    """The format of zlib, and for the servers that got that wrong, deflate without its frame."""

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None

    @property
    def is_complete(self) -> bool:
        return self._stream is not None and self._stream.eof

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None and data:
            is_framed = data[0] & 0xF == zlib.DEFLATED
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if is_framed else -zlib.MAX_WBITS)
        if self._stream is not None and not self._stream.eof:
            yield from _inflated(self._stream, data)


class _Brotli:
    """Brotli (RFC 7932)."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def is_complete(self) -> bool:
        return bool(self._stream.is_finished())

    def decode(self, data: bytes) -> Iterator[bytes]:
        try:
            while not self._stream.is_finished():
                piece = self._stream.process(data, output_buffer_limit=PIECE_BYTES)
                if not piece:
                    return
                yield piece
                data = b""
        except brotli.error as exc:
            raise UndecodableError(str(exc)) from exc


def _inflated(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    try:
        piece = b""
        while not stream.eof and (data or len(piece) == PIECE_BYTES):
            piece = stream.decompress(data, PIECE_BYTES)
            yield piece
            data = stream.unconsumed_tail
    except zlib.error as exc:
        raise UndecodableError(str(exc)) from exc


_DECODERS: Final[dict[str, type[_Gzip | _Deflate | _Brotli]]] = {
    "gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
}
_UNKNOWN: Final = frozenset({"zstd", "compress", "dcb", "dcz"})
