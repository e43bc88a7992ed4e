"""The identity of a media item: an id that is computed without a lookup.

    id = base32(SHA-256(selection text, LF, source key)), lower case, without padding: 52 characters

The selection text is `mode=BEST` or `mode=AUDIO_ONLY`, then those that are set of
`;max_height=N;min_height=N;audio_language=TAG;all_audio_languages;video_codecs=NAME,NAME`,
`;start_offset=S.NNNNNNNNN;end_offset=S.NNNNNNNNN` in seconds, `;exact_offsets`, then
`;record_ms=N` for a recording of a live stream, which differs from the media item that exists after
its end. It is not protobuf, whose bytes are not canonical across versions and languages. A field
added to Selection later must add nothing to the text while it is unset, or every id would change.
If tenants have caches of their own, `;tenant=NAME` is its end (tenants.py).
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from datetime import timedelta
from typing import Final, Literal

from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import Selection
from ingot_server.languages import canonical_tag
from ingot_server.library.tenants import TENANT

FIRST_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
"""The characters of ids, sorted: those that list all ids in parts."""

_OFFSETS: Final[tuple[Literal["start_offset", "end_offset"], ...]] = ("start_offset", "end_offset")
_MEDIA_ID: Final = re.compile(r"[a-z2-7]{52}")


def canonical_selection(selection: Selection) -> Selection:
    """Return the canonical form of `selection`, which is equal for all that mean the same."""
    canonical = Selection()
    canonical.CopyFrom(selection)
    if canonical.mode == Selection.MODE_UNSPECIFIED:
        canonical.mode = Selection.MODE_BEST
    if canonical.audio_language:
        canonical.audio_language = canonical_tag(canonical.audio_language)
    if not canonical.start_offset.ToNanoseconds():
        canonical.ClearField("start_offset")
    if not selects_section(canonical):
        canonical.exact_offsets = False
    return canonical


def media_id(
    source_key: str,
    selection: Selection,
    record_duration: timedelta | None = None,
    *,
    tenant: str | None = None,
) -> str:
    """Return the id of the media item with `source_key` in the form that `selection` requests.

    With `record_duration` it is the id of a recording of this length, made while it is live. It is
    one of the tenant whose call or job runs, if no `tenant` is given.
    """
    tenant = TENANT.get() if tenant is None else tenant
    text = _selection_text(canonical_selection(selection))
    if record_duration is not None:
        text += f";record_ms={round(record_duration / timedelta(milliseconds=1))}"
    if tenant:
        text += f";tenant={tenant}"
    # The first line feed ends the selection, so a key cannot imitate another selection.
    digest = hashlib.sha256(f"{text}\n{source_key}".encode()).digest()
    return b32encode(digest).decode("ascii").rstrip("=").lower()


def _selection_text(canonical: Selection) -> str:
    text = "mode=" + Selection.Mode.Name(canonical.mode).removeprefix("MODE_")
    for name in ("max_height", "min_height"):
        if canonical.HasField(name):
            text += f";{name}={getattr(canonical, name)}"
    if canonical.audio_language:
        text += f";audio_language={canonical.audio_language}"
    if canonical.all_audio_languages:
        text += ";all_audio_languages"
    if canonical.video_codecs:
        text += f";video_codecs={','.join(canonical.video_codecs)}"
    for name in _OFFSETS:
        if canonical.HasField(name):
            offset: Duration = getattr(canonical, name)
            text += f";{name}={offset.seconds}.{offset.nanos:09d}"
    if canonical.exact_offsets:
        text += ";exact_offsets"
    return text


def selects_section(selection: Selection) -> bool:
    """Return whether a canonical `selection` is of a section of the media, not of all of it."""
    return any(selection.HasField(name) for name in _OFFSETS)


def is_media_id(text: str) -> bool:
    """Return whether `text` has the form of an id; only then may it become part of a key."""
    return _MEDIA_ID.fullmatch(text) is not None
