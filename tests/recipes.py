"""Recipes as tests write them: a format's name, its parameters, and offsets in seconds."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from ingot.v1.recipe_pb2 import Recipe
from ingot_server.library.recipe_formats import RECIPE_FORMATS

TRANSCODED: Final = [name for name in RECIPE_FORMATS if not name.startswith("transcript")]
"""The names of the formats that ffmpeg makes."""
PARAMETERS: Final[dict[str, list[str]]] = {
    field.name: list(getattr(Recipe(), field.name).DESCRIPTOR.fields_by_name)
    for field in Recipe.DESCRIPTOR.oneofs_by_name["format"].fields
}
"""The parameters of each format, by the name of its field in Recipe."""


def make_recipe(
    name: str, *, start: float | None = None, end: float | None = None, **parameters: float | str
) -> Recipe:
    """Return a recipe for a format; `jpeg` and `png` are images of that encoding.

    Times are in seconds.
    """
    made = Recipe()
    if name == "transcript_json":
        name, made.transcript.encoding = "transcript", Recipe.Transcript.ENCODING_JSON
    if name in {"jpeg", "png"}:
        made.image.encoding = Recipe.Image.Encoding.Value(f"ENCODING_{name.upper()}")
    message = getattr(made, "image" if made.HasField("image") else name)
    message.SetInParent()
    for parameter, value in parameters.items():
        if parameter == "interval":
            message.interval.CopyFrom(_duration(float(value)))
        else:
            setattr(message, parameter, value)
    for offset, seconds in ((made.start_offset, start), (made.end_offset, end)):
        if seconds is not None:
            offset.CopyFrom(_duration(seconds))
    return made


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
