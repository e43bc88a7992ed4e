"""Conversion of the parsed command line into messages of the contract, and of errors back."""

from __future__ import annotations

import re
from argparse import Namespace
from datetime import timedelta
from typing import Any, Final

from ingot.errors import InvalidRequest
from ingot.recipe_options import OPTIONS
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe

_OPTION_BY_FIELD: Final = {
    "labels": "--label",
    "lifetime": "--lifetime",
    "max_age": "--max-age",
    "options.max_entries": "--max-entries",
    "options.playlist": "--playlist",
    "options.record_duration": "--record",
    "options.subtitle_languages": "--subtitles",
    "selection.max_height": "--max-height",
}

AUDIO_ONLY: Final = Selection(mode=Selection.MODE_AUDIO_ONLY)


def selection(options: Namespace) -> Selection | None:
    """Return the selection that the options describe; None means the best video and audio."""
    if not options.audio_only and options.max_height is None:
        return None
    mode = Selection.MODE_AUDIO_ONLY if options.audio_only else Selection.MODE_BEST
    return Selection(mode=mode, max_height=options.max_height)


def ingest(options: Namespace) -> dict[str, Any]:
    """Return the keyword arguments of Client.ingest_video and Client.validate."""
    ingest_options = IngestOptions(
        playlist=options.playlist,
        max_entries=options.max_entries,
        subtitle_languages=options.subtitles,
        automatic_subtitles=options.automatic_subtitles,
        thumbnail=options.thumbnail,
    )
    if options.record is not None:
        ingest_options.record_duration.FromTimedelta(options.record)
    return {
        "selection": selection(options),
        "max_age": options.max_age,
        "labels": dict(options.label),
        "options": ingest_options if ingest_options.ByteSize() else None,
        "recipes": [recipe(each) for each in options.recipe],
    }


def priority(options: Namespace) -> IngestRequest.Priority.ValueType:
    """Return the priority of the job."""
    return IngestRequest.Priority.Value(f"PRIORITY_{options.priority.upper()}")


def recipe(options: Namespace) -> Recipe:
    """Return the recipe that the options describe."""
    message = Recipe(format=Recipe.Format.Value(f"FORMAT_{options.format.upper()}"))
    for field in OPTIONS:
        value = getattr(options, field, None)
        if field == "format" or value is None:
            continue
        if isinstance(value, timedelta):
            getattr(message, field).FromTimedelta(value)
        else:
            setattr(message, field, value)
    return message


def name_options(error: InvalidRequest, options: Namespace) -> bool:
    """Replace the names of fields in `error` by the names of their options.

    Returns whether all of them have one, which makes it an error of usage. `error.status` stays as
    the server sent it.
    """
    recipe_options = {field: _recipe_option(field, options) for field in error.violations}
    if recipe_options and all(recipe_options.values()):
        error.violations = {recipe_options[field]: rule for field, rule in error.violations.items()}
        error.message = "; ".join(f"{name} {rule}" for name, rule in error.violations.items()) + "."
        if all("--" in name for name in error.violations):
            return True
        error.add_note("`ingot media URL_OR_ID` shows which streams the media has.")
        return False
    if options.command in ("convert", "mp3") and "options.playlist" in error.violations:
        error.add_note("To convert all entries, run `ingot ingest URL --playlist --recipe FORMAT`.")
        return False
    names = {field: _option(field) for field in error.violations}
    for field, name in names.items():
        error.message = error.message.replace(field, name)
    error.violations = {names[field]: rule for field, rule in error.violations.items()}
    return bool(names) and all(name.startswith("--") for name in error.violations)


def _option(path: str) -> str:
    """Return the option for a field such as `selection.max_height`, or the path if it has none."""
    field = re.match(r"[\w.]+", path)
    return _OPTION_BY_FIELD.get(field[0], path) if field else path


def _recipe_option(path: str, options: Namespace) -> str:
    """Return the command line's name of a field such as `recipe.end`; empty if it has none."""
    match = re.fullmatch(r"recipe(?:s\[(\d+)\])?\.(\w+)", path)
    if match is None or match[2] not in OPTIONS:
        return ""
    index, field = match.groups()
    if options.command == "convert":
        return OPTIONS[field]
    if options.command == "mp3":
        return "MP3" if field == "format" else OPTIONS[field]
    if options.command != "ingest":
        return ""
    # The error of a job does not say which of several recipes is wrong.
    texts = [each.text for each in options.recipe]
    text = texts[int(index)] if index else " or ".join(texts)
    return f"{OPTIONS[field].removeprefix('--')} of --recipe {text}"
