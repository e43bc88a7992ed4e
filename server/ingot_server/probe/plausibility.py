"""What a file may make its readers do, compared with its size.

A few bytes of an index can announce any number of packets, and can name the same bytes again and
again. Reading such a file, or copying it, would cost far more than sending it did.
"""

from __future__ import annotations

import os
from typing import Any, Final

from av.container import InputContainer

MAX_STREAMS: Final = 1000
"""Streams of one file. A broadcast with 40 programmes has a few hundred."""
STREAMS_EXCEEDED: Final = "exceeds max_streams"
"""What FFmpeg logs about a file that has more; some demuxers then ignore the others."""

# A segment that an edit list repeats is read each time. Matroska can compress packets.
_EXPANSION: Final = 10


class Implausible(Exception):
    """The file costs more to read than its size justifies. The message is a sentence."""


class Allowance:
    """The packets that one file may still have, and the bytes that these may have in all."""

    def __init__(self, file_bytes: int) -> None:
        self._packets = file_bytes
        self._bytes = _EXPANSION * file_bytes

    @classmethod
    def of(cls, file: Any) -> Allowance:
        """Return that of a seekable file. Its position stays."""
        position = file.tell()
        file_bytes = file.seek(0, os.SEEK_END)
        file.seek(position)
        return cls(file_bytes)

    def check_announced(self, container: InputContainer) -> None:
        """Check the number of frames that the index announces, before any packet is read.

        That of audio says nothing: an index may count samples. Raises Implausible.
        """
        for stream in container.streams.video:
            if stream.frames > self._packets:
                raise Implausible(
                    f"The file announces {stream.frames} frames, "
                    f"and has only {self._packets} bytes."
                )

    def take(self, packet_bytes: int) -> None:
        """Count a packet that was read; it has at least one byte. Raises Implausible."""
        self._packets -= 1
        self._bytes -= packet_bytes
        if self._packets < 0 or self._bytes < 0:
            raise Implausible("The file names the same bytes again and again as its packets.")
