"""Conversion of the parsed command line into messages of the contract, and of errors back."""

from __future__ import annotations

import re
from argparse import Namespace
from datetime import timedelta
from typing import Any, Final

from google.rpc.code_pb2 import INVALID_ARGUMENT
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from ingot.errors import DOMAIN, InvalidRequest
from ingot.recipe_options import OPTIONS
from ingot.v1.job_pb2 import IngestOptions, JobPriority
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe

_OPTION_BY_FIELD: Final = {
    "job_id": "ID",
    "labels": "--label",
    "lifetime": "--lifetime",
    "max_age": "--max-age",
    "options.max_entries": "--max-entries",
    "options.playlist": "--playlist",
    "options.record_duration": "--record",
    "options.subtitle_languages": "--subtitles",
    "selection.all_audio_languages": "--all-audio-languages",
    "selection.audio_language": "--audio-language",
    "selection.end_offset": "--end",
    "selection.exact_offsets": "--exact",
    "selection.max_height": "--max-height",
    "selection.min_height": "--min-height",
    "selection.start_offset": "--start",
    "selection.video_codecs": "--video-codec",
    "subscription.exclude_titles": "--exclude",
    "subscription.include_titles": "--include",
    "subscription.interval": "--every",
    "subscription.labels": "--label",
    "subscription.max_entries": "--max-entries",
    "subscription.url": "URL",
    "subscription.webhook_url": "--webhook",
    "subscription_id": "ID",
    "source": "--source",
    "text": "WORD",
    "url": "URL",
    "webhook_url": "--webhook",
}

# The formats on the command line that are encodings in the contract: of which format, and which.
_ENCODINGS: Final = {
    "jpeg": ("image", Recipe.Image.ENCODING_JPEG),
    "png": ("image", Recipe.Image.ENCODING_PNG),
    "transcript": ("transcript", Recipe.Transcript.ENCODING_TEXT),
    "transcript-json": ("transcript", Recipe.Transcript.ENCODING_JSON),
}

AUDIO_ONLY: Final = Selection(mode=Selection.MODE_AUDIO_ONLY)


def selection(options: Namespace) -> Selection | None:
    """Return the selection that the options describe; None means the best video and audio."""
    chosen = Selection(
        max_height=options.max_height,
        min_height=options.min_height,
        audio_language=options.audio_language,
        all_audio_languages=options.all_audio_languages,
        video_codecs=options.video_codec,
        exact_offsets=options.exact,
    )
    if options.start is not None:
        chosen.start_offset.FromTimedelta(options.start)
    if options.end is not None:
        chosen.end_offset.FromTimedelta(options.end)
    if not options.audio_only and not chosen.ByteSize():
        return None
    chosen.mode = Selection.MODE_AUDIO_ONLY if options.audio_only else Selection.MODE_BEST
    return chosen


def ingest(options: Namespace) -> dict[str, Any]:
    """Return the keyword arguments of Client.ingest_video and Client.validate."""
    ingest_options = _media_options(options)
    ingest_options.playlist = options.playlist
    if options.max_entries is not None:
        ingest_options.max_entries = options.max_entries
    return {
        "selection": selection(options),
        "max_age": options.max_age,
        "labels": dict(options.label),
        "options": ingest_options if ingest_options.ByteSize() else None,
        "recipes": _recipes(options),
        "webhook_url": options.webhook,
    }


def follow(options: Namespace) -> dict[str, Any]:
    """Return the keyword arguments of Client.follow that say how entries are ingested."""
    return {
        "selection": selection(options),
        "labels": dict(options.label),
        "options": _media_options(options),
        "recipes": _recipes(options),
        "webhook_url": options.webhook,
    }


def _media_options(options: Namespace) -> IngestOptions:
    """Return the side files of a media item, and how a live stream is recorded."""
    ingest_options = IngestOptions(
        subtitle_languages=options.subtitles,
        automatic_subtitles=options.automatic_subtitles,
        thumbnail=options.thumbnail,
        all_subtitles=options.all_subtitles,
        storyboard=options.storyboard,
        info=options.info,
    )
    if options.record is not None:
        ingest_options.record_duration.FromTimedelta(options.record)
    return ingest_options


def upload(options: Namespace) -> dict[str, Any]:
    """Return the keyword arguments of Client.upload_media."""
    return {
        "labels": dict(options.label),
        "priority": priority(options),
        "recipes": _recipes(options),
        "webhook_url": options.webhook,
    }


def priority(options: Namespace) -> JobPriority.ValueType:
    """Return the priority of the job."""
    return JobPriority.Value(f"JOB_PRIORITY_{options.priority.upper()}")


def _recipes(options: Namespace) -> list[Recipe]:
    return [recipe(each, at=f"recipes[{number}]") for number, each in enumerate(options.recipe)]


def recipe(options: Namespace, *, at: str = "recipe") -> Recipe:
    """Return the recipe that the options describe; it is the field `at` of the request.

    Raises InvalidRequest for options that its format does not have.
    """
    message = Recipe()
    name, encoding = _ENCODINGS.get(options.format, (options.format, None))
    parameters = getattr(message, name)
    parameters.SetInParent()
    if encoding is not None:
        parameters.encoding = encoding
    foreign = []
    for field in OPTIONS:
        value = getattr(options, field, None)
        if field == "format" or value is None or value is False:
            continue
        owner = message if field in message.DESCRIPTOR.fields_by_name else parameters
        if field not in owner.DESCRIPTOR.fields_by_name:
            foreign.append(f"{at}.{name}.{field}")
        elif field == "origin":
            message.transcript.origin = Recipe.Transcript.Origin.Value(f"ORIGIN_{value.upper()}")
        elif isinstance(value, timedelta):
            getattr(owner, field).FromTimedelta(value)
        else:
            setattr(owner, field, value)
    if foreign:
        raise _invalid(dict.fromkeys(foreign, f"does not apply to {options.format}"))
    return message


def name_options(error: InvalidRequest, options: Namespace) -> None:
    """Replace the names of fields in `error` by the names of their options and arguments.

    `error.status` stays as the server sent it.
    """
    if options.command == "upload":
        error.violations = {
            field.removeprefix("header."): rule for field, rule in error.violations.items()
        }
        error.message = error.message.replace("header.", "")
    recipe_options = {field: _recipe_option(field, options) for field in error.violations}
    if recipe_options and all(recipe_options.values()):
        error.violations = {recipe_options[field]: rule for field, rule in error.violations.items()}
        error.message = "; ".join(f"{name} {rule}" for name, rule in error.violations.items()) + "."
        if not all("--" in name for name in error.violations):
            error.add_note("`ingot media URL_OR_ID` shows which streams the media has.")
        return
    if options.command in ("convert", "mp3") and "options.playlist" in error.violations:
        error.add_note("To convert all entries, run `ingot ingest URL --playlist --recipe FORMAT`.")
        return
    names = {field: _option(field) for field in error.violations}
    for field, name in names.items():
        error.message = error.message.replace(field, name)
    error.violations = {names[field]: rule for field, rule in error.violations.items()}


def _option(path: str) -> str:
    """Return the name of a field such as `selection.max_height`, or the path if it has none."""
    field = re.match(r"[\w.]+", path)
    return _OPTION_BY_FIELD.get(field[0], path) if field else path


def _recipe_option(path: str, options: Namespace) -> str:
    """Return the command line's name of a field such as `recipe.mp3.quality`; empty if none."""
    match = re.fullmatch(r"recipe(?:s\[(\d+)\])?\.(\w+)(?:\.(\w+))?", path)
    if match is None:
        return ""
    index, name, parameter = match.groups()
    field = parameter or (name if name in OPTIONS else "format")
    if field == "encoding":
        field = "format"
    if field not in OPTIONS:
        return ""
    if options.command == "convert":
        return OPTIONS[field]
    if options.command == "mp3":
        return "MP3" if field == "format" else OPTIONS[field]
    if options.command not in ("ingest", "upload"):
        return ""
    # The error of a job does not say which of several recipes is wrong.
    texts = [each.text for each in options.recipe]
    text = texts[int(index)] if index else " or ".join(texts)
    return f"{OPTIONS[field].removeprefix('--')} of --recipe {text}"


def _invalid(violations: dict[str, str]) -> InvalidRequest:
    """Return the error that the server would return for these fields."""
    shown = "; ".join(f"{field} {rule}" for field, rule in violations.items())
    status = Status(code=INVALID_ARGUMENT, message=f"The request is invalid: {shown}.")
    status.details.add().Pack(ErrorInfo(domain=DOMAIN, reason="INVALID_REQUEST"))
    wrong = BadRequest()
    for field, rule in violations.items():
        wrong.field_violations.add(field=field, description=rule)
    status.details.add().Pack(wrong)
    return InvalidRequest(status.message, status=status)
