"""Chapters as players show them: in order, within the media, each one up to the next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise

from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import Chapter


def shifted(chapters: Iterable[Chapter], start: timedelta) -> list[Chapter]:
    """Return `chapters` as a section of the media has them that begins at `start`.

    Those that end before are left out, and the one that is going on begins at zero.
    """
    if not start:
        return list(chapters)
    ordered = sorted(chapters, key=lambda each: each.start_offset.ToTimedelta())
    found = []
    for chapter, following in zip(ordered, [*ordered[1:], None], strict=True):
        begin, end = chapter.start_offset.ToTimedelta(), chapter.end_offset.ToTimedelta()
        next_begin = following.start_offset.ToTimedelta() if following is not None else None
        if (end if end > begin else next_begin or timedelta.max) <= start:
            continue
        kept = Chapter(title=chapter.title)
        kept.start_offset.FromTimedelta(max(begin - start, timedelta()))
        kept.end_offset.FromTimedelta(max(end - start, timedelta()))
        found.append(kept)
    return found


def within(chapters: Iterable[Chapter], duration: timedelta) -> list[Chapter]:
    """Return `chapters` sorted, without those that begin past the end of the media.

    One that has no end, or ends before it begins, ends where the next one begins. None ends past
    `duration`.
    """
    ordered = sorted(
        (each for each in chapters if each.start_offset.ToTimedelta() < duration),
        key=lambda each: (each.start_offset.ToTimedelta(), each.end_offset.ToTimedelta()),
    )
    begins = [each.start_offset.ToTimedelta() for each in ordered]
    found = []
    for chapter, (begin, next_begin) in zip(ordered, pairwise([*begins, duration]), strict=True):
        end = chapter.end_offset.ToTimedelta()
        kept = Chapter(
            title=chapter.title, start_offset=chapter.start_offset, end_offset=Duration()
        )
        kept.end_offset.FromTimedelta(min(end if end > begin else next_begin, duration))
        found.append(kept)
    return found
