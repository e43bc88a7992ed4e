"""The stretch of a track that a section needs: only these segments are fetched. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingot_server.extractor.presentation import Part, Track


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a track, in whole segments."""

    track: Track
    begins_at: float
    """Where it begins in the media, in seconds."""
    clock: float | None
    """The timestamp of the beginning of the media in its segments; None if that is not known."""


def stretch(track: Track, start: float, end: float) -> Stretch:
    """Return the segments of `track` that are played between `start` and `end` seconds.

    It has at least one, and the initialization sections that they need. Parts of which the manifest
    does not say when their segments begin are taken whole.
    """
    position = 0.0
    chosen: list[tuple[float, Part]] = []
    for part in track.parts:
        part_end = position + part.seconds
        if position < end and (part_end > start or part is track.parts[-1]):
            begin, found = _chosen(part, start - position, end - position)
            chosen.append((position + begin, found))
        position = part_end
    begins_at, first = chosen[0]
    clock = None
    if len(chosen) == 1 and first.begins_at is not None:
        clock = first.begins_at - begins_at
    return Stretch(replace(track, parts=tuple(part for _, part in chosen)), begins_at, clock)


def _chosen(part: Part, start: float, end: float) -> tuple[float, Part]:
    """Return what is needed of a part, and where that begins in it. Times are within the part."""
    places = [place for place in part.places if place is not None]
    if not places:
        return 0.0, part
    first = max([place for place in places if place <= start], default=places[0])
    kept = [
        (fragment, place)
        for fragment, place in zip(part.fragments, part.places, strict=True)
        if place is None or first <= place < end
    ]
    begins_at = None if part.begins_at is None else part.begins_at + first
    return first, Part(
        tuple(fragment for fragment, _ in kept),
        part.seconds - first,
        begins_at,
        tuple(None if place is None else place - first for _, place in kept),
    )
