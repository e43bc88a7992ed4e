"""The section that a selection asks for, and the one that a file turned out to have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.errors import Failure
from ingot_server.library.identity import canonical_selection, selects_section

# How much shorter than the section a file may be: frames and packets do not end at its end.
_TOLERANCE_SECONDS: Final = 1.0
_TOLERANCE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the media at its source, in seconds."""

    start: float
    end: float
    """Infinite for the end of the media."""
    exact: bool = False
    """Whether it begins at `start`, not at a key frame before it."""

    @classmethod
    def of(cls, selection: Selection) -> Self | None:
        """Return the section that `selection` asks for; None if it asks for all of the media."""
        canonical = canonical_selection(selection)
        if not selects_section(canonical):
            return None
        end = canonical.end_offset.ToTimedelta().total_seconds()
        return cls(
            canonical.start_offset.ToTimedelta().total_seconds(),
            end if canonical.HasField("end_offset") else math.inf,
            canonical.exact_offsets,
        )

    def length_in(self, whole_seconds: float) -> float:
        """Return how long the section is in media of this length; 0 if that ends before it."""
        return max(0.0, min(self.end, whole_seconds) - self.start)


@dataclass(frozen=True, slots=True)
class StoredSection:
    """Which section a file that was cut turned out to be."""

    requested: Section
    start_seconds: float
    """Where the file begins in the media."""
    whole_seconds: float | None
    """How long the media is; None if that is not known."""

    def describe(self, media: Media) -> None:
        """Say in the Media of the file which section it is. Raises Failure TRUNCATED."""
        length = media.duration.ToTimedelta()
        expected = min(self.requested.end, self.whole_seconds or math.inf) - self.start_seconds
        shortest = expected - max(_TOLERANCE_SECONDS, _TOLERANCE * expected)
        if math.isfinite(expected) and self.whole_seconds and length.total_seconds() < shortest:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"The section lasts {expected:g} s at its source, and what arrived of it lasts "
                f"{length.total_seconds():g} s.",
            )
        start = timedelta(seconds=self.start_seconds)
        media.section.start_offset.FromTimedelta(start)
        media.section.end_offset.FromTimedelta(start + length)
