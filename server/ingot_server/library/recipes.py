"""What a recipe means: its canonical form, the id of what it makes, the media it can be made of.

    id = base32(SHA-256(recipe text, LF, parent's media id)), lower case, without padding

The recipe text is `format=MP3;bitrate_kbps=192;...`: the format, then every field that is set in
the canonical form, in the order of their numbers. It can be no selection text (`identity.py`), so
no derived media has the id of one that came from a source. A field added to Recipe later must add
nothing while it is unset, or every id would change.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.duration_pb2 import Duration

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure

# ISO/IEC 11172-3 and 13818-3, layer III; 2.5 is the extension that every decoder knows.
_MPEG_1_KBPS: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2_KBPS: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_25_KBPS: Final = (8, 16, 24, 32, 40, 48, 56, 64)
_MP3_KBPS: Final = tuple(sorted({*_MPEG_1_KBPS, *_MPEG_2_KBPS}))
_MP3_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES: Final = (*_MP3_RATES, 64000, 88200, 96000)
_OPUS_RATES: Final = (8000, 12000, 16000, 24000, 48000)

LONGEST_SECONDS: Final = 315_576_000_000
"""Of a google.protobuf.Duration; a longer one cannot be written as JSON, so in no manifest."""

SOURCE: Final = "convert"
"""Media.source.name of what was converted."""

_PICTURES: Final = frozenset({Recipe.FORMAT_PNG, Recipe.FORMAT_JPEG})
_NEEDS_VIDEO: Final = frozenset({Recipe.FORMAT_MP4, *_PICTURES})


@dataclass(frozen=True, slots=True)
class Form:
    """What a format knows of a recipe's fields; `start` is known by all."""

    fields: frozenset[str]
    defaults: Mapping[str, int] = field(default_factory=dict)
    bitrates_kbps: range | tuple[int, ...] = ()
    qualities: range = range(0)
    sample_rates_hz: range | tuple[int, ...] = ()


_SOUND: Final = frozenset({"end", "sample_rate_hz", "channels", "normalize_loudness"})
_ANY_RATE: Final = range(8000, 192_001)

FORMS: Final[Mapping[Recipe.Format.ValueType, Form]] = {
    Recipe.FORMAT_MP3: Form(
        _SOUND | {"bitrate_kbps", "quality"},
        bitrates_kbps=_MP3_KBPS,
        qualities=range(10),
        sample_rates_hz=_MP3_RATES,
    ),
    Recipe.FORMAT_M4A: Form(
        _SOUND | {"bitrate_kbps"},
        {"bitrate_kbps": 160},
        bitrates_kbps=range(16, 513),
        sample_rates_hz=_AAC_RATES,
    ),
    Recipe.FORMAT_OPUS: Form(
        _SOUND | {"bitrate_kbps"},
        {"bitrate_kbps": 128},
        bitrates_kbps=range(6, 511),
        sample_rates_hz=_OPUS_RATES,
    ),
    Recipe.FORMAT_FLAC: Form(
        _SOUND | {"bits_per_sample"}, {"bits_per_sample": 16}, sample_rates_hz=_ANY_RATE
    ),
    Recipe.FORMAT_WAV: Form(
        _SOUND | {"bits_per_sample"}, {"bits_per_sample": 16}, sample_rates_hz=_ANY_RATE
    ),
    Recipe.FORMAT_MP4: Form(
        _SOUND | {"quality", "max_height"}, qualities=range(52), sample_rates_hz=_AAC_RATES
    ),
    Recipe.FORMAT_PNG: Form(frozenset({"max_height"})),
    Recipe.FORMAT_JPEG: Form(frozenset({"max_height"})),
    Recipe.FORMAT_WAVEFORM: Form(
        frozenset({"end", "points_per_second"}), {"points_per_second": 20}
    ),
}


def canonical_recipe(recipe: Recipe, *, at: str = "recipe") -> Recipe:
    """A new Recipe that means the same and is equal to every other one that does.

    Raises Failure INVALID_REQUEST for nonsense, naming the field of the request, which is at `at`.
    """
    wrong = _violations(recipe)
    if wrong:
        raise Failure(
            reason_pb2.REASON_INVALID_REQUEST,
            "The recipe cannot be made: "
            + "; ".join(f"{name} {problem}" for name, problem in wrong.items())
            + ".",
            violations={f"{at}.{name}": problem for name, problem in wrong.items()},
        )
    canonical = Recipe()
    canonical.CopyFrom(recipe)
    for name, value in FORMS[recipe.format].defaults.items():
        if not canonical.HasField(name):  # type: ignore[arg-type] # a name of FORMS
            setattr(canonical, name, value)
    if recipe.format == Recipe.FORMAT_MP3 and recipe.WhichOneof("rate") is None:
        canonical.bitrate_kbps = min(192, _mp3_bitrates(recipe)[-1])
    if not _nanoseconds(recipe.start):
        canonical.ClearField("start")
    return canonical


def recipe_text(recipe: Recipe) -> str:
    """The canonical recipe as one line, as `derived_id` covers it and a source key shows it."""
    parts = [f"format={Recipe.Format.Name(recipe.format).removeprefix('FORMAT_')}"]
    for descriptor, value in sorted(recipe.ListFields(), key=lambda each: each[0].number):
        if descriptor.name == "format":
            continue
        if isinstance(value, Duration):
            value = f"{value.seconds}.{value.nanos:09d}"
        parts.append(f"{descriptor.name}={int(value) if isinstance(value, bool) else value}")
    return ";".join(parts)


def derived_id(parent_id: str, recipe: Recipe) -> str:
    """The id of what a canonical `recipe` makes of the media `parent_id`."""
    digest = hashlib.sha256(f"{recipe_text(recipe)}\n{parent_id}".encode()).digest()
    return b32encode(digest).decode("ascii").rstrip("=").lower()


def canonical_recipes(recipes: Sequence[Recipe], *, at: str = "recipes") -> list[Recipe]:
    """The canonical forms of a list, each once, in their order. Raises as `canonical_recipe`."""
    canonical: dict[str, Recipe] = {}
    for number, recipe in enumerate(recipes):
        one = canonical_recipe(recipe, at=f"{at}[{number}]")
        canonical.setdefault(recipe_text(one), one)
    return list(canonical.values())


def workflow_id(parent_id: str, recipes: Sequence[Recipe], *, kind: str) -> str:
    """What single flight knows an ingest with conversions by: nothing is stored under it."""
    text = "\n".join([f"kind={kind}", *map(recipe_text, recipes), parent_id])
    return b32encode(hashlib.sha256(text.encode()).digest()).decode("ascii").rstrip("=").lower()


def single_flight_key(job: Job) -> str:
    """What single flight knows a job by that has others make its media; empty for any other.

    One that asks for a list is another than one that does not, though the URL names the same.
    """
    if job.media.derived_from or not (job.recipes or job.options.playlist):
        return ""
    kind = job_pb2.JobKind.Name(job.kind) + ("_LIST" if job.options.playlist else "")
    return workflow_id(job.media.id, job.recipes, kind=kind)


def needs_video(recipe: Recipe) -> bool:
    """Whether it takes pictures; else the sound alone will do."""
    return recipe.format in _NEEDS_VIDEO


def derived_media(parent: Media, recipe: Recipe) -> Media:
    """What is known of a conversion before it is made: its name, and where it comes from."""
    media = Media(
        id=derived_id(parent.id, recipe), url=parent.url, derived_from=parent.id, recipe=recipe
    )
    media.source.name = SOURCE
    media.source.key = f"{SOURCE}:{parent.id}:{recipe_text(recipe)}"
    media.source.page_url = parent.source.page_url
    return media


def is_current(derived: Media, parent: Media) -> bool:
    """Whether a conversion was made from the file that its parent has now."""
    return derived.derived_from_sha256 == parent.blob.sha256


def sample_rates(recipe: Recipe) -> range | tuple[int, ...]:
    """Those of its format that can carry the bit rate of a canonical recipe."""
    rates = FORMS[recipe.format].sample_rates_hz
    if recipe.format != Recipe.FORMAT_MP3 or not recipe.HasField("bitrate_kbps"):
        return rates
    return tuple(
        rate for rate in rates if recipe.bitrate_kbps in _mp3_bitrates(Recipe(sample_rate_hz=rate))
    )


def check_applicable(recipe: Recipe, media: Media, *, at: str = "recipe") -> None:
    """Raises Failure INVALID_REQUEST, naming the field, when `media` has not what is asked for."""
    duration = media.duration.seconds * 10**9 + media.duration.nanos
    name = problem = ""
    if needs_video(recipe) and not media.video:
        name, problem = "format", "needs video, and the media has none"
    elif not needs_video(recipe) and not media.audio:
        name, problem = "format", "needs audio, and the media has none"
    elif _nanoseconds(recipe.start) and _nanoseconds(recipe.start) >= duration:
        name, problem = "start", f"is past the media's end at {duration / 1e9:g} s"
    elif recipe.normalize_loudness and not media.audio:
        name, problem = "normalize_loudness", "needs audio, and the media has none"
    if name:
        raise Failure(
            reason_pb2.REASON_INVALID_REQUEST,
            f"The recipe's {name} {problem}.",
            violations={f"{at}.{name}": problem},
        )


def _violations(recipe: Recipe) -> dict[str, str]:
    form = FORMS.get(recipe.format)
    if form is None:
        return {"format": "is none that is known"}
    shown = Recipe.Format.Name(recipe.format).removeprefix("FORMAT_")
    wrong = {
        descriptor.name: f"means nothing for {shown}"
        for descriptor, _ in recipe.ListFields()
        if descriptor.name not in form.fields | {"format", "start"}
    }
    for name in ("bitrate_kbps", "quality", "sample_rate_hz"):
        allowed = _allowed(form, recipe, name)
        if name not in wrong and recipe.HasField(name) and getattr(recipe, name) not in allowed:
            wrong[name] = f"is not one that {shown} has: {_shown(allowed)}"
    for name in ("start", "end"):
        if name not in wrong and not _is_time(getattr(recipe, name)):
            wrong[name] = "is not a time in the media"
    ends = not wrong and recipe.HasField("end")
    if ends and _nanoseconds(recipe.end) <= _nanoseconds(recipe.start):
        wrong["end"] = "is not after start"
    return wrong


def _allowed(form: Form, recipe: Recipe, name: str) -> range | tuple[int, ...]:
    if name == "quality":
        return form.qualities
    if name == "sample_rate_hz":
        return form.sample_rates_hz
    return _mp3_bitrates(recipe) if recipe.format == Recipe.FORMAT_MP3 else form.bitrates_kbps


def _mp3_bitrates(recipe: Recipe) -> tuple[int, ...]:
    """Those that the sample rate leaves: each version of MPEG audio has its own."""
    if not recipe.HasField("sample_rate_hz"):
        return _MP3_KBPS
    if recipe.sample_rate_hz < 16000:
        return _MPEG_25_KBPS
    return _MPEG_2_KBPS if recipe.sample_rate_hz < 32000 else _MPEG_1_KBPS


def _shown(allowed: range | tuple[int, ...]) -> str:
    if isinstance(allowed, range):
        return f"{allowed[0]} to {allowed[-1]}"
    return ", ".join(map(str, allowed))


def _is_time(duration: Duration) -> bool:
    return 0 <= duration.seconds <= LONGEST_SECONDS and 0 <= duration.nanos < 10**9


def _nanoseconds(duration: Duration) -> int:
    return duration.seconds * 10**9 + duration.nanos
