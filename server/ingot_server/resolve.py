"""What a request names: the media that a URL and a selection stand for."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from ingot.v1.media_pb2 import Selection
from ingot_server.errors import Failure
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.sources import Identity, Source, pick

# Normalising and hashing cost more than the rest of GetMedia. Long URLs are rare, and left out so
# that the cache stays below some ten megabytes.
_REMEMBERED: Final = 8192
_REMEMBERED_LENGTH: Final = 512


class ResolvedUrl(NamedTuple):
    """One media as its source knows it. Shared between calls: not to be changed."""

    media_id: str
    source: Source
    identity: Identity
    selection: Selection


def resolve(
    url: str,
    selection: Selection,
    *,
    playlist: bool = False,
    record_duration: timedelta | None = None,
) -> ResolvedUrl:
    """The media behind any form of its URL; with `playlist` the list it names or is in. No I/O.

    With `record_duration` a recording of it, where the source may have live streams.

    Raises Failure: INVALID_REQUEST for a broken URL, UNSUPPORTED_URL when no source takes it.
    """
    wanted = url, selection.mode, selection.max_height, playlist, record_duration
    return _remembered(*wanted) if len(url) <= _REMEMBERED_LENGTH else _resolve(*wanted)


def may_be_list(named: ResolvedUrl, url: str) -> bool:
    """Whether `url`, in which `named` was found with `playlist`, can be that of a list. No I/O."""
    if named.source.may_be_list:
        return True
    try:
        return pick(url)[1].key != named.identity.key
    except Failure:
        return True


def _resolve(
    url: str,
    mode: Selection.Mode.ValueType,
    max_height: int,
    playlist: bool,
    record_duration: timedelta | None,
) -> ResolvedUrl:
    source, identity = pick(url, playlist=playlist)
    selection = canonical_selection(Selection(mode=mode, max_height=max_height or None))
    recorded = record_duration if source.may_be_live else None
    return ResolvedUrl(media_id(identity.key, selection, recorded), source, identity, selection)


_remembered: Final = lru_cache(maxsize=_REMEMBERED)(_resolve)
