"""What a command line asks for, as messages of the contract."""

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

_OPTIONS: Final = {
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
    """Which form of a media is meant; None is the best."""
    if not options.audio_only and options.max_height is None:
        return None
    mode = Selection.MODE_AUDIO_ONLY if options.audio_only else Selection.MODE_BEST
    return Selection(mode=mode, max_height=options.max_height)


def ingest(options: Namespace) -> dict[str, Any]:
    """What `ingest` asks for, whatever the URL."""
    taken = IngestOptions(
        playlist=options.playlist,
        max_entries=options.max_entries,
        subtitle_languages=options.subtitles,
        automatic_subtitles=options.automatic_subtitles,
        thumbnail=options.thumbnail,
    )
    if options.record is not None:
        taken.record_duration.FromTimedelta(options.record)
    return {
        "selection": selection(options),
        "max_age": options.max_age,
        "labels": dict(options.label),
        "options": taken if taken.ByteSize() else None,
        "recipes": [recipe(each) for each in options.recipe],
    }


def priority(options: Namespace) -> IngestRequest.Priority.ValueType:
    """Which of the waiting jobs goes first."""
    return IngestRequest.Priority.Value(f"PRIORITY_{options.priority.upper()}")


def recipe(options: Namespace) -> Recipe:
    """What the options of a recipe come to."""
    made = Recipe(format=Recipe.Format.Value(f"FORMAT_{options.format.upper()}"))
    for field in OPTIONS:
        value = getattr(options, field, None)
        if field == "format" or value is None:
            continue
        if isinstance(value, timedelta):
            getattr(made, field).FromTimedelta(value)
        else:
            setattr(made, field, value)
    return made


def name_options(error: InvalidRequest, options: Namespace) -> bool:
    """Has `error` speak of options where it names fields; whether these are at fault.

    `error.status` stays as the server sent it.
    """
    recipe = {field: _recipe_option(field, options) for field in error.violations}
    if recipe and all(recipe.values()):
        error.violations = {recipe[field]: rule for field, rule in error.violations.items()}
        error.message = "; ".join(f"{name} {rule}" for name, rule in error.violations.items()) + "."
        if all("--" in name for name in error.violations):
            return True
        error.add_note("`ingot media` shows what the media holds.")
        return False
    if options.command in ("convert", "mp3") and "options.playlist" in error.violations:
        error.add_note("`ingot ingest URL --playlist --recipe FORMAT` makes it of all of them.")
        return False
    names = {field: _option(field) for field in error.violations}
    for field, name in names.items():
        error.message = error.message.replace(field, name)
    error.violations = {names[field]: rule for field, rule in error.violations.items()}
    return bool(names) and all(name.startswith("--") for name in error.violations)


def _option(path: str) -> str:
    """The option for a field such as `selection.max_height`; the path itself where none is."""
    field = re.match(r"[\w.]+", path)
    return _OPTIONS.get(field[0], path) if field else path


def _recipe_option(path: str, options: Namespace) -> str:
    """What the command line calls a field such as `recipe.end`; empty when it has no name."""
    where = re.fullmatch(r"recipe(?:s\[(\d+)\])?\.(\w+)", path)
    if where is None or where[2] not in OPTIONS:
        return ""
    if options.command == "convert":
        return OPTIONS[where[2]]
    if options.command == "mp3":
        return "MP3" if where[2] == "format" else OPTIONS[where[2]]
    if options.command != "ingest":
        return ""
    word = OPTIONS[where[2]].removeprefix("--")
    # A job does not say which of several recipes it was.
    texts = [each.text for each in options.recipe]
    return f"{word} of --recipe {texts[int(where[1])] if where[1] else ' or '.join(texts)}"
