"""CONTRIBUTING lists the places that a change touches; these tests check the lists."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from ingot.recipe_options import FORMATS
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.library.recipe_formats import RECIPE_FORMATS
from ingot_server.sources import SOURCES
from ingot_server.sources.source import FetchMethod, Source

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
NAMES = {
    *(field.name for field in Recipe.DESCRIPTOR.oneofs_by_name["format"].fields),
    *(name.removeprefix("ENCODING_").lower() for name in Recipe.Image.Encoding.keys()),
} - {"image", "unspecified"}


def test_every_file_that_the_guide_names_exists() -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|proto|md|toml))`", GUIDE)

    assert named
    assert not [path for path in named if "NAME" not in path and not list(ROOT.rglob(path))]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_recipe_format_has_its_row_its_option_and_its_documentation(name: str) -> None:
    assert name in RECIPE_FORMATS
    assert name in FORMATS
    assert re.search(
        rf"^\| [^|]*\b{name}\b",
        (ROOT / "docs/recipes.md").read_text(),
        re.MULTILINE | re.IGNORECASE,
    )


def test_the_command_line_offers_no_format_that_the_contract_lacks() -> None:
    # The encodings of a transcript: `transcript` is text.
    assert set(FORMATS) == NAMES | {"transcript-json"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_is_documented(source: Source) -> None:
    assert source.accepts
    assert f"`{source.name}`" in (ROOT / "docs/sources.md").read_text()


def test_every_fetch_method_is_used_by_a_source() -> None:
    assert {source.fetch_method for source in SOURCES} == set(FetchMethod)


def test_no_two_modules_of_the_server_have_the_same_name() -> None:
    modules = Counter(
        path.stem
        for path in (ROOT / "server/ingot_server").rglob("*.py")
        if path.stem != "__init__"
    )

    assert not [name for name, count in modules.items() if count > 1]
