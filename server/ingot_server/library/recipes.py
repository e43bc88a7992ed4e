"""What a recipe means: its canonical form, the id of its result, and the media items it applies to.

    id = base32(SHA-256(recipe text, LF, the parent's media id)), lower case, without padding

The recipe text is `format=MP3;bitrate_kbps=192;...`: the format, then the parameters and the
offsets that the canonical form sets, each in the order of their numbers. No selection text
(`identity.py`) looks like this, so a derived media item never has the id of one that came from a
source. A field that is added to Recipe later must add nothing while it is unset, or every id would
change.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from google.protobuf.duration_pb2 import Duration

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.languages import canonical_tag
from ingot_server.library.recipe_formats import (
    FormatKind,
    Numbers,
    audio_bitrate_kbps,
    format_name,
    format_of,
    normalizes_loudness,
    parameter,
    parameters_of,
)
from ingot_server.library.storyboards import storyboard_problem

LONGEST_SECONDS: Final = 315_576_000_000
"""The longest google.protobuf.Duration. JSON, and so a manifest, has no form for a longer one."""

# Callers repeat the same conversions, and writing a recipe as text takes longer than the lookup.
_CACHED_IDS: Final = 8192

SOURCE: Final = "convert"
"""The source name of a derived media item."""


def canonical_recipe(recipe: Recipe, *, at: str = "recipe") -> Recipe:
    """Return a new Recipe that is equal for all recipes that mean the same.

    The recipe keeps the rules of the contract. Raises Failure INVALID_REQUEST if its fields do not
    go together. Its violations name the fields of the request; the recipe is the field `at` of it.
    """
    wrong = dict(_violations(recipe))
    if wrong:
        raise Failure(
            reason_pb2.REASON_INVALID_REQUEST,
            "The recipe is not valid: "
            + "; ".join(f"{name} {problem}" for name, problem in wrong.items())
            + ".",
            violations={f"{at}.{name}": problem for name, problem in wrong.items()},
        )
    canonical = Recipe()
    canonical.CopyFrom(recipe)
    parameters, row = parameters_of(canonical), format_of(canonical)
    for name, value in row.defaults.items():
        if name == "bitrate_kbps":
            if parameter(recipe, "quality") is not None:
                continue
            value = min(value, row.bitrates_kbps(parameter(recipe, "sample_rate_hz"))[-1])
        if not getattr(parameters, name):
            setattr(parameters, name, value)
    if canonical.HasField("transcript"):
        canonical.transcript.language = canonical_tag(recipe.transcript.language)
    if not _nanoseconds(recipe.start_offset):
        canonical.ClearField("start_offset")
    return canonical


def recipe_text(recipe: Recipe) -> str:
    """Return a canonical recipe as the one line that ids are computed from."""
    parts = [f"format={format_name(recipe).upper()}"]
    for descriptor, value in sorted(
        parameters_of(recipe).ListFields(), key=lambda each: each[0].number
    ):
        if descriptor.name != "encoding":  # it is the format's name
            parts.append(f"{descriptor.name}={_parameter_text(value)}")
    for name in ("start_offset", "end_offset"):
        offset: Duration = getattr(recipe, name)
        if _nanoseconds(offset):
            parts.append(f"{name}={_time_text(offset)}")
    return ";".join(parts)


def derived_id(parent_id: str, recipe: Recipe) -> str:
    """Return the id of the result of a canonical recipe for the media item `parent_id`."""
    return _derived_id(parent_id, recipe.SerializeToString(deterministic=True))


def canonical_recipes(recipes: Sequence[Recipe], *, at: str = "recipes") -> list[Recipe]:
    """Return the canonical forms in the given order, without duplicates.

    Raises Failure INVALID_REQUEST as `canonical_recipe` does.
    """
    canonical: dict[str, Recipe] = {}
    for number, recipe in enumerate(recipes):
        one = canonical_recipe(recipe, at=f"{at}[{number}]")
        canonical.setdefault(recipe_text(one), one)
    return list(canonical.values())


def workflow_id(parent_id: str, recipes: Sequence[Recipe], *, kind: str) -> str:
    """Return the single-flight key of an ingest with conversions. Nothing is stored under it."""
    return _base32("\n".join([f"kind={kind}", *map(recipe_text, recipes), parent_id]))


def single_flight_key(job: Job) -> str:
    """Return the single-flight key of a job whose children make its media, else an empty string.

    A job that asks for a list has another key than one that does not, even for the same URL.
    """
    if job.kind == job_pb2.JOB_KIND_CONVERT or not (job.recipes or job.options.playlist):
        return ""
    kind = job_pb2.JobKind.Name(job.kind) + ("_LIST" if job.options.playlist else "")
    return workflow_id(job.media.id, job.recipes, kind=kind)


def needs_video(recipe: Recipe) -> bool:
    """Return whether the recipe needs video; the others need no more than audio."""
    kinds = {FormatKind.VIDEO, FormatKind.IMAGE, FormatKind.STORYBOARD}
    return format_of(recipe).kind in kinds


def derived_media(parent: Media, recipe: Recipe) -> Media:
    """Return what is known of a result before it exists: its id, URL, source, parent and recipe."""
    media = Media(
        id=derived_id(parent.id, recipe),
        url=parent.url,
        derived_from_media_id=parent.id,
        recipe=recipe,
    )
    media.source.name = SOURCE
    media.source.key = f"{SOURCE}:{parent.id}:{recipe_text(recipe)}"
    media.source.page_url = parent.source.page_url
    return media


def is_current(derived: Media, parent: Media) -> bool:
    """Return whether a result was made from the blob that its parent has now."""
    return derived.derived_from_sha256 == parent.blob.sha256


def sample_rates(recipe: Recipe) -> Numbers:
    """Return the sample rates of the format that allow the bit rate of a canonical recipe."""
    row, bitrate_kbps = format_of(recipe), audio_bitrate_kbps(recipe)
    return row.sample_rates_for(bitrate_kbps) if bitrate_kbps else row.sample_rates_hz


def check_applicable(recipe: Recipe, media: Media, *, at: str = "recipe") -> None:
    """Check that a media item has what a canonical recipe needs.

    `transcript_origin.py` says what a transcript can be made from. Raises Failure INVALID_REQUEST,
    naming the field of the request, if the media item does not have it.
    """
    duration = media.duration.seconds * 10**9 + media.duration.nanos
    name: str = recipe.WhichOneof("format") or ""
    problem = ""
    if needs_video(recipe) and not media.video:
        problem = "needs video, and the media item has none"
    elif format_of(recipe).kind in {FormatKind.AUDIO, FormatKind.WAVEFORM} and not media.audio:
        problem = "needs audio, and the media item has none"
    elif _nanoseconds(recipe.start_offset) and _nanoseconds(recipe.start_offset) >= duration:
        name = "start_offset"
        problem = f"is past the end of the media item at {duration / 1e9:g} s"
    elif normalizes_loudness(recipe) and not media.audio:
        name, problem = f"{name}.normalize_loudness", "needs audio, and the media item has none"
    elif recipe.HasField("storyboard"):
        end = _nanoseconds(recipe.end_offset) or duration
        length = min(end, duration) - _nanoseconds(recipe.start_offset)
        name, problem = storyboard_problem(recipe.storyboard, length / 1e9)
    if problem:
        raise Failure(
            reason_pb2.REASON_INVALID_REQUEST,
            f"The recipe's {name} {problem}.",
            violations={f"{at}.{name}": problem},
        )


def _violations(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what the rules of the contract, which are about single fields, cannot say."""
    row = format_of(recipe)
    bitrate_kbps, sample_rate_hz = audio_bitrate_kbps(recipe), parameter(recipe, "sample_rate_hz")
    if bitrate_kbps and bitrate_kbps not in row.bitrates_kbps(sample_rate_hz):
        allowed = ", ".join(map(str, row.bitrates_kbps(sample_rate_hz)))
        yield (
            f"{recipe.WhichOneof('format')}.bitrate_kbps",
            f"must be one of {allowed} at {sample_rate_hz} samples per second",
        )
    for name in ("start_offset", "end_offset"):
        if not _is_time(getattr(recipe, name)):
            yield name, "is not a valid time"
    if recipe.HasField("end_offset"):
        if row.kind is FormatKind.IMAGE:
            yield "end_offset", "does not apply to an image"
        elif _nanoseconds(recipe.end_offset) <= _nanoseconds(recipe.start_offset):
            yield "end_offset", "must be after the start"


@lru_cache(_CACHED_IDS)
def _derived_id(parent_id: str, recipe: bytes) -> str:
    return _base32(f"{recipe_text(Recipe.FromString(recipe))}\n{parent_id}")


def _base32(text: str) -> str:
    return b32encode(hashlib.sha256(text.encode()).digest()).decode("ascii").rstrip("=").lower()


def _parameter_text(value: Duration | str | int) -> str:
    if isinstance(value, Duration):
        return _time_text(value)
    return value if isinstance(value, str) else str(int(value))


def _time_text(duration: Duration) -> str:
    return f"{duration.seconds}.{duration.nanos:09d}"


def _is_time(duration: Duration) -> bool:
    return 0 <= duration.seconds <= LONGEST_SECONDS and 0 <= duration.nanos < 10**9


def _nanoseconds(duration: Duration) -> int:
    return duration.seconds * 10**9 + duration.nanos
