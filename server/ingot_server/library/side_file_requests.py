"""Which side files were asked for, as `Media.sought` has it, and which still are to be."""

from __future__ import annotations

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media

_THUMBNAIL = "thumbnail"
_AUTOMATIC = " automatic"


def sought(options: IngestOptions) -> list[str]:
    """What `options` ask for, in order."""
    suffix = _AUTOMATIC if options.automatic_subtitles else ""
    asked = {language.lower() + suffix for language in options.subtitle_languages}
    return sorted(asked | ({_THUMBNAIL} if options.thumbnail else set()))


def is_thumbnail_sought(media: Media) -> bool:
    """Whether the source of `media` was asked for a thumbnail, or has nothing besides."""
    return lacking(media, IngestOptions(thumbnail=True)) is None


def lacking(media: Media, options: IngestOptions) -> IngestOptions | None:
    """What `options` ask for and the source of `media` was not asked for yet; None: nothing.

    None also for what was not extracted: such a source has nothing besides.
    """
    if not media.HasField("extraction"):
        return None
    known = set(media.sought)
    left = IngestOptions(
        automatic_subtitles=options.automatic_subtitles,
        thumbnail=options.thumbnail and _THUMBNAIL not in known,
    )
    for language in options.subtitle_languages:
        asked = {language.lower() + _AUTOMATIC}
        if not options.automatic_subtitles:
            asked.add(language.lower())
        if not asked & known:
            left.subtitle_languages.append(language)
    return left if left.thumbnail or left.subtitle_languages else None
