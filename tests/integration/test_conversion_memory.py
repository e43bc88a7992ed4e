"""Memory that is just too little: wherever ffmpeg finds out, it crashed, and may be tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.setting_values import ByteSize
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import Tags
from ingot_server.transcode.transcoder import Transcoder
from tests.media import media
from tests.recipes import make_recipe

pytestmark = pytest.mark.slow

# From where it can't start to where it has most of what it takes: threads, decoders, encoders.
MEBIBYTES = (64, *range(225, 420, 15))


@pytest.mark.parametrize(
    "recipe",
    [
        make_recipe("mp3"),
        make_recipe("mp4", quality=23),
        make_recipe("png"),
    ],
    ids=lambda recipe: recipe.WhichOneof("format"),
)
async def test_too_little_memory_is_not_blamed_on_the_media(tmp_path: Path, recipe: Recipe) -> None:
    prober, answers = Prober(Settings()), set[str]()
    found = await prober.probe(media("plain.mp4"))
    for mebibytes in MEBIBYTES:
        directory = tmp_path / str(mebibytes)
        directory.mkdir()
        ffmpeg = Ffmpeg(Settings(conversion_memory=ByteSize(mebibytes << 20)))
        try:
            await Transcoder(ffmpeg, prober).transcode(
                plan_conversion(canonical_recipe(recipe), found),
                media("plain.mp4"),
                directory,
                Tags(),
            )
        except Failure as failure:
            answers.add(f"{reason_name(failure.reason)}: {failure.message}")
    assert answers
    assert {answer.partition(":")[0] for answer in answers} == {"CONVERTER_CRASHED"}, answers
