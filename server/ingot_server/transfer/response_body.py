"""The body of one response as the file that it is: decoded, and with a beginning to look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.transfer.content import MARKUP_BYTES, START_BYTES, Kind, kind_of
from ingot_server.transfer.decoding import (
    Decoder,
    UndecodableError,
    are_contradicted,
    codings,
    decoder,
)

_TELLING_BYTES: Final = 16
BROKEN: Final = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What reading a body raises when it breaks off."""


class ResponseBody:
    """Reads a response of `host` in pieces, without the codings of its content.

    A coding that the body contradicts is ignored: some servers name one that they did not apply.
    Without `decodes`, all are. `start` can be called before the first `read`.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, host: str, *, decodes: bool = True
    ) -> None:
        self._response = response
        self._host = host
        self._codings = codings(response.headers) if decodes else []
        self._decoder: Decoder | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._start = b""

    @property
    def is_coded(self) -> bool:
        """Whether the content is coded, so that its length and ranges are not those of the file."""
        return bool(self._codings)

    async def start(self) -> bytes:
        """Return as many of the first bytes as tell what they are, or all; `read` repeats them.

        Raises as `read` does.
        """
        while len(self._start) < _needed(self._start) and (piece := await self._next()):
            self._start += piece
        return self._start

    async def read(self) -> bytes:
        """Return the next bytes, or none at the end.

        Raises one of BROKEN, TimeoutError, EOFError for a coded body that ends early, and Failure
        SOURCE_FAILED if the body cannot be decoded.
        """
        if self._start:
            start, self._start = self._start, b""
            return start
        return await self._next()

    async def _next(self) -> bytes:
        if not self._codings:
            return await self._response.content.readany()
        try:
            while True:
                for piece in self._pieces:
                    if piece:
                        return piece
                data = await self._response.content.readany()
                if not data:
                    return self._end()
                if self._decoder is None:
                    data += await self._more(data)
                    self._decoder = self._decoder_for(data)
                self._pieces = self._decoder.decode(data)
        except UndecodableError as exc:
            raise self._failure(f"sends what cannot be decoded: {exc}") from exc

    async def _more(self, data: bytes) -> bytes:
        """Return what `data` lacks to tell whether it is coded."""
        more = b""
        while len(data + more) < _TELLING_BYTES:
            piece = await self._response.content.readany()
            if not piece:
                break
            more += piece
        return more

    def _decoder_for(self, data: bytes) -> Decoder:
        if are_contradicted(self._codings, data) or kind_of(data) is Kind.MEDIA:
            self._codings = []
        found = decoder(self._codings)
        if found is None:
            raise self._failure(
                f"compresses the file with {', '.join(self._codings)}, although the request "
                "excludes compression."
            )
        return found

    def _end(self) -> bytes:
        if self._decoder is not None and not self._decoder.is_complete:
            raise EOFError("The coded response ended early.")
        return b""

    def _failure(self, what: str) -> Failure:
        return Failure(
            reason_pb2.REASON_SOURCE_FAILED,
            f"{self._host} {what}",
            metadata={"content_encoding": ", ".join(self._codings)},
        )


def _needed(start: bytes) -> int:
    return MARKUP_BYTES if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else START_BYTES
