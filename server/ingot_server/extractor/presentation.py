"""What HLS and DASH manifests have in common: tracks of parts of fragments. Pure.

A track is one rendition of an HLS master playlist, or one representation of a DASH manifest. It
consists of parts, each with its own timestamps and initialization section: the periods of DASH, and
what lies between two discontinuities of HLS. Inserted advertisements are such parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

MAX_FRAGMENTS: Final = 200_000
"""How many fragments a track may have."""
TRACK: Final = "ingot_track"
"""The key of yt-dlp's format dictionaries that holds a Track."""

# How much the media may differ from what the manifest says.
_TOLERANCE_SECONDS: Final = 1.0
_TOLERANCE: Final = 0.02

Fragment: TypeAlias = Mapping[str, Any]
"""One request, as yt-dlp's FragmentFD takes it: `url`, and where needed `byte_range`,
`decrypt_info` and `media_sequence`."""


class Unreadable(Exception):
    """The manifest says too little, or something that cannot be fetched. The message says what."""


class Unjoinable(Exception):
    """The parts of a presentation are too different for one file. The message says how."""


class Incomplete(Exception):
    """A part of the presentation is missing at its source. The message says which."""


class LiveStream(Exception):
    """The media is a live stream now."""


@dataclass(frozen=True, slots=True)
class Part:
    """Fragments with one clock. Without fragments: the track is silent, or dark, for a while."""

    fragments: tuple[Fragment, ...]
    seconds: float
    """How long the manifest says that it is."""
    begins_at: float | None = None
    """The timestamp of its beginning in seconds. None: that of the first packet."""
    places: tuple[float | None, ...] = ()
    """Where each fragment begins in the part, in seconds; None for an initialization section.
    Empty if the manifest does not say."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One rendition, as its manifest has it."""

    parts: tuple[Part, ...] = ()
    error: Exception | None = None
    """Why it cannot be fetched; None if it can."""
    whole_seconds: float = 0.0
    """How long the manifest says that the whole presentation is; 0 if it does not."""
    is_timed: bool = False
    """Whether the lengths in the manifest decide what is played, as in DASH."""
    rounding_seconds: float = 0.0
    """How much of the length can be due to durations that the manifest rounds."""

    @property
    def is_one_file(self) -> bool:
        """Whether it is one whole file, which needs no downloader of fragments."""
        fragments = [fragment for part in self.parts for fragment in part.fragments]
        return len(fragments) == len(self.parts) == 1 and "byte_range" not in fragments[0]

    @property
    def seconds(self) -> float:
        """How long the manifest says that the track is; 0 if it does not."""
        return max(self.whole_seconds, sum(part.seconds for part in self.parts))

    @property
    def bounds_seconds(self) -> tuple[float, float]:
        """The least and the greatest length that agree with the manifest.

        Its lengths of HLS segments may be too short: nothing else is fetched because of that.
        """
        tolerance = max(_TOLERANCE_SECONDS, _TOLERANCE * self.seconds, self.rounding_seconds)
        longest = self.seconds + tolerance if self.is_timed else math.inf
        return max(0.0, self.seconds - tolerance), longest
