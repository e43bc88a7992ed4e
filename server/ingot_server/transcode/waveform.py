"""Peaks of audio for drawing: the JSON of audiowaveform, version 2, 8 bits.

https://github.com/bbc/audiowaveform/blob/master/doc/DataFormat.md
"""

from __future__ import annotations

import json
from typing import Final

_ZERO: Final = 128


class Waveform:
    """The lowest and highest sample of each point, from mono PCM of unsigned bytes."""

    def __init__(self, *, sample_rate_hz: int, points_per_second: int) -> None:
        self.seconds = 0.0
        self._rate = sample_rate_hz
        self._step = sample_rate_hz // points_per_second
        self._rest = b""
        self._data: list[int] = []

    def add(self, samples: bytes) -> None:
        """Add the next samples, any number of them."""
        self.seconds += len(samples) / self._rate
        samples = self._rest + samples
        whole = len(samples) // self._step * self._step
        for begin in range(0, whole, self._step):
            self._point(samples[begin : begin + self._step])
        self._rest = samples[whole:]

    def dumps(self) -> bytes:
        """Return the JSON for all samples that were added."""
        if self._rest:
            self._point(self._rest)
            self._rest = b""
        return json.dumps(
            {
                "version": 2,
                "channels": 1,
                "sample_rate": self._rate,
                "samples_per_pixel": self._step,
                "bits": 8,
                "length": len(self._data) // 2,
                "data": self._data,
            },
            separators=(",", ":"),
        ).encode()

    def _point(self, samples: bytes) -> None:
        values = set(samples)  # At most 256, so only one pass goes over all samples.
        self._data += (min(values) - _ZERO, max(values) - _ZERO)
