"""Chapters as players show them: in order, within the media, each one up to the next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise

from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import Chapter


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
