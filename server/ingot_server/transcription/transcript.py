"""A transcript: its segments, and the two forms in which it is stored. docs/recipes.md has both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ingot.transcript import cues


@dataclass(frozen=True, slots=True)
class Segment:
    """What is said from `start` to `end`, in seconds from the beginning."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The segments of a media item or of a part of it, in the order of their times."""

    segments: tuple[Segment, ...]
    duration_seconds: float
    language: str
    """BCP 47; empty if unknown."""
    origin: str
    """`subtitles` or `sound`."""
    automatic: bool
    """Whether a program wrote it."""
    model: str = ""
    """The model that made it from the sound; else empty."""

    def text(self) -> str:
        """Return a line for each segment."""
        return "".join(f"{segment.text}\n" for segment in self.segments) or "\n"

    def json(self) -> str:
        """Return the JSON, whose segments have names and units of OpenAI's `verbose_json`."""
        document = {
            "version": 1,
            "origin": self.origin,
            "automatic": self.automatic,
            "language": self.language,
            "duration": round(self.duration_seconds, 3),
            "text": " ".join(segment.text for segment in self.segments),
            "segments": [
                {
                    "id": number,
                    "start": round(segment.start, 3),
                    "end": round(segment.end, 3),
                    "text": segment.text,
                }
                for number, segment in enumerate(self.segments)
            ],
        }
        if self.model:
            document["model"] = self.model
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def subtitle_segments(content: bytes) -> list[Segment]:
    """Return a segment for each cue of WebVTT or SubRip that shows something new, by its start."""
    found = cues(content.decode("utf-8-sig", errors="replace"))
    segments = [Segment(cue.start, cue.end, " ".join(cue.lines)) for cue in found]
    return sorted(segments, key=lambda segment: segment.start)


def within(segments: Iterable[Segment], start: float, length: float) -> Iterator[Segment]:
    """Yield the segments of the part that begins at `start`, cut to it and on its clock."""
    for segment in segments:
        begin, end = max(segment.start - start, 0.0), min(segment.end - start, length)
        if begin < end:
            yield Segment(begin, end, segment.text)
