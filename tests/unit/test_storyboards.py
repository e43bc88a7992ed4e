from __future__ import annotations

import pytest

from ingot.v1.media_pb2 import AspectRatio, Media
from ingot_server.library.recipes import canonical_recipe, check_applicable
from ingot_server.library.storyboard_index import webvtt, with_links
from ingot_server.library.storyboards import (
    StoryboardLayout,
    storyboard_layout,
    storyboard_problem,
    tiles,
)
from ingot_server.transcode.plan import plan_conversion
from tests.recipes import make_recipe

INDEX = """WEBVTT

00:00:00.000 --> 00:00:02.500
a.1.jpg#xywh=0,0,160,90

00:00:02.500 --> 00:00:05.000
a.1.jpg#xywh=160,0,160,90

00:00:05.000 --> 00:00:05.200
a.2.jpg#xywh=0,0,160,90
"""


def layout(seconds: float, **parameters: float) -> StoryboardLayout:
    recipe = canonical_recipe(make_recipe("storyboard", **parameters))
    return storyboard_layout(recipe.storyboard, seconds)


@pytest.mark.parametrize(
    ("seconds", "parameters", "expected", "sheets"),
    [
        (2, {}, StoryboardLayout(1000, 2, 2, 1), 1),
        (0.2, {}, StoryboardLayout(1000, 1, 1, 1), 1),
        (99.5, {}, StoryboardLayout(1000, 100, 10, 10), 1),
        (7200, {}, StoryboardLayout(72_000, 100, 10, 10), 1),
        (1234.5678, {}, StoryboardLayout(12_346, 100, 10, 10), 1),
        (7200, {"interval": 10}, StoryboardLayout(10_000, 720, 10, 10), 8),
        (10, {"interval": 0.5, "columns": 3, "rows": 2}, StoryboardLayout(500, 20, 3, 2), 4),
        (10, {"interval": 3600}, StoryboardLayout(3_600_000, 1, 1, 1), 1),
    ],
)
def test_pictures_are_arranged_on_sheets(
    seconds: float, parameters: dict[str, float], expected: StoryboardLayout, sheets: int
) -> None:
    found = layout(seconds, **parameters)
    assert found == expected
    assert found.sheets == sheets


@pytest.mark.parametrize(
    ("seconds", "parameters", "field"),
    [
        (0, {}, "storyboard"),
        (0.1, {}, ""),
        (2000, {"interval": 1}, ""),
        (2001, {"interval": 1}, "storyboard.interval"),
        (100, {"interval": 1, "columns": 1, "rows": 1}, ""),
        (101, {"interval": 1, "columns": 1, "rows": 1}, "storyboard.rows"),
        (1_000_000, {}, ""),
    ],
)
def test_what_is_too_much_is_refused_by_the_name_of_its_field(
    seconds: float, parameters: dict[str, float], field: str
) -> None:
    recipe = canonical_recipe(make_recipe("storyboard", **parameters))
    found, problem = storyboard_problem(recipe.storyboard, seconds)
    assert (found, bool(problem)) == (field, bool(field))


def test_a_part_is_what_counts() -> None:
    media = Media()
    media.duration.FromSeconds(7200)
    media.video.add(width=640, height=360)
    recipe = canonical_recipe(make_recipe("storyboard", interval=1, start=10, end=20))
    check_applicable(recipe, media)
    planned = plan_conversion(recipe, media).storyboard
    assert planned is not None
    assert planned.layout == StoryboardLayout(1000, 10, 10, 1)


@pytest.mark.parametrize(
    ("width", "height", "rotation", "pixel", "requested", "expected"),
    [
        (640, 360, 0, None, 160, (160, 90)),
        (1920, 800, 0, None, 160, (160, 66)),
        (640, 360, 90, None, 160, (160, 284)),
        (64, 48, 0, None, 160, (64, 48)),
        (720, 576, 0, AspectRatio(width=64, height=45), 160, (160, 90)),
        (100, 1000, 0, None, 160, (32, 320)),
        (9000, 10, 0, None, 160, (160, 2)),
        (10, 9000, 0, None, 160, (2, 320)),
    ],
)
def test_a_picture_has_the_shape_of_the_video(
    width: int,
    height: int,
    rotation: int,
    pixel: AspectRatio | None,
    requested: int,
    expected: tuple[int, int],
) -> None:
    media = Media()
    media.duration.FromSeconds(5)
    media.video.add(width=width, height=height, rotation=rotation, sample_aspect_ratio=pixel)
    recipe = canonical_recipe(make_recipe("storyboard", width=requested))
    planned = plan_conversion(recipe, media).storyboard
    assert planned is not None
    assert (planned.tile.width, planned.tile.height) == expected


def test_the_index_names_the_place_of_each_picture() -> None:
    shown = layout(5.2, interval=2.5, columns=2, rows=1)
    assert webvtt(tiles(shown, 160, 90, 5.2, "a.{}.jpg".format)) == INDEX


def test_links_take_the_place_of_names() -> None:
    links = {"a.1.jpg": "https://store/a.1.jpg?X=1&a.2.jpg#", "a.2.jpg": "https://store/2"}
    linked = with_links(INDEX, links)
    assert linked.count("https://store/a.1.jpg?X=1&a.2.jpg##xywh=") == 2
    assert linked.splitlines()[-1] == "https://store/2#xywh=0,0,160,90"
    assert with_links(INDEX, {}) == INDEX
