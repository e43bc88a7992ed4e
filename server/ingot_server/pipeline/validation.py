"""The checks that a file has to pass before it is committed, besides probing as media."""

from __future__ import annotations

from typing import Final

from ingot.v1 import media_pb2, reason_pb2
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large
from ingot_server.extractor.result import ManifestLength, Resolved
from ingot_server.languages import in_language
from ingot_server.section.requested import Section
from ingot_server.transfer.staged import StagedFile

# How much shorter than its source announced a file may be, and how much longer.
_TOLERANCE_SECONDS: Final = 2.0
_TOLERANCE: Final = 0.02
_LONGER_SECONDS: Final = 60.0
_LONGER: Final = 0.5


def check_selection(media: Media, selection: Selection, *, extracted: bool) -> None:
    """Raise Failure SELECTION_UNAVAILABLE if the streams do not match the selection.

    `extracted`: the extractor chose the audio by the language that the source gives it, which files
    often do not repeat.
    """
    if selection.mode == media_pb2.Selection.MODE_AUDIO_ONLY and media.video:
        raise _unavailable(
            "The file has video, and the source does not offer its audio alone. Ingest it without "
            "selecting audio only."
        )
    height = max((stream.height for stream in media.video), default=0)
    if selection.HasField("max_height") and height > selection.max_height:
        raise _unavailable(
            f"The only video is {height} pixels high, and max_height is {selection.max_height}. "
            "Ingest it without max_height."
        )
    if selection.HasField("min_height") and height < selection.min_height:
        offer = f"The best video is {height} pixels high" if media.video else "There is no video"
        raise _unavailable(
            f"{offer}, and min_height is {selection.min_height}. Ingest it without min_height."
        )
    if selection.audio_language and not extracted:
        _check_language(media, selection.audio_language)


def _check_language(media: Media, wanted: str) -> None:
    languages = list(dict.fromkeys(each.language for each in media.audio if each.language))
    if in_language(wanted, languages):
        return
    offer = (
        f"The file has audio in {', '.join(languages)}"
        if languages
        else "The file does not say which language its audio has"
    )
    raise _unavailable(f"{offer}, and audio_language is {wanted}. Ingest it without that.")


def _unavailable(message: str) -> Failure:
    return Failure(reason_pb2.REASON_SELECTION_UNAVAILABLE, message)


def check_announced(found: Resolved, section: Section | None, settings: Settings) -> None:
    """Raise Failure TOO_LONG or TOO_LARGE if the source already announces that.

    Of a `section`, only the length is known before it is there.
    """
    if found.is_live:
        return
    limit, seconds = settings.max_duration, found.duration_seconds
    if seconds and section is not None:
        seconds = section.length_in(seconds)
    if seconds and seconds > limit.total_seconds():
        raise Failure(
            reason_pb2.REASON_TOO_LONG,
            f"The source announces {seconds:g} s. INGOT_MAX_DURATION allows {limit}.",
            metadata={"limit_seconds": f"{limit.total_seconds():g}"},
        )
    if section is None and found.size_bytes and found.size_bytes > settings.max_media_size:
        raise too_large(int(settings.max_media_size), found.size_bytes)


def check_duration(media: Media, announced_seconds: float | None) -> None:
    """Raise Failure TRUNCATED if a file is shorter than its source announced.

    It may be 2 s or 2 % shorter, because announcements are rounded. It may be longer, because
    sources announce the length without the advertisements that they insert. If it is longer by more
    than a minute and half of its length, it is another file. None and zero announce nothing.
    """
    if not announced_seconds:
        return
    seconds = media.duration.ToTimedelta().total_seconds()
    shortest = announced_seconds - max(_TOLERANCE_SECONDS, _TOLERANCE * announced_seconds)
    longest = announced_seconds + max(_LONGER_SECONDS, _LONGER * announced_seconds)
    if not shortest <= seconds <= longest:
        raise Failure(
            reason_pb2.REASON_TRUNCATED,
            f"The source announced {announced_seconds:g} s, and the file lasts {seconds:g} s.",
        )


def check_manifest(media: Media, announced: ManifestLength | None) -> None:
    """Raise Failure TRUNCATED if a file is not as long as its HLS or DASH manifest says."""
    seconds = media.duration.ToTimedelta().total_seconds()
    if announced and not announced.shortest_seconds <= seconds <= announced.longest_seconds:
        raise Failure(
            reason_pb2.REASON_TRUNCATED,
            f"The manifest announced {announced.seconds:g} s, and what arrived of it lasts "
            f"{seconds:g} s.",
        )


def check_stored(staged: StagedFile) -> None:
    """Raise Failure STORAGE_UNAVAILABLE if the bucket has another size than the file."""
    if staged.size_bytes != staged.file_bytes:
        raise Failure(
            reason_pb2.REASON_STORAGE_UNAVAILABLE,
            f"The bucket holds {staged.size_bytes} of the {staged.file_bytes} bytes that were "
            "sent. Try again.",
        )


def check_size(size_bytes: int, settings: Settings) -> None:
    """Raise Failure TOO_LARGE for a file that is larger than the limit."""
    limit = int(settings.max_media_size)
    if size_bytes > limit:
        raise too_large(limit, size_bytes)
