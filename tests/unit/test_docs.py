"""What the documentation lists is what there is."""

import dataclasses
import json
import re
import runpy
from collections import Counter
from datetime import timedelta
from xml.etree import ElementTree

import pytest

from ingot_server.config import PREFIX, RENAMED, Settings
from ingot_server.errors import TREATMENTS, reason_name
from tests.documented_pages import PAGES, ROOT

DOCS = ROOT / "docs"
UPGRADING = DOCS / "upgrading.md"
FORGE = "https://github.com/ingot-media/ingot/blob/main/"


def test_every_setting_is_documented_as_it_is() -> None:
    linked = re.compile(r"\[([\w-]+\.md)\]\(\1\)")
    rows = {
        cells[1].strip(" `"): (cells[2].strip(" `"), linked.sub(r"\1", cells[3].strip()))
        for line in (DOCS / "settings.md").read_text().splitlines()
        if len(cells := line.split("|")) == 5 and cells[1].startswith(" `")
    }

    assert {name: text for name, (_, text) in rows.items()} == {
        PREFIX + item.name.upper(): item.metadata["doc"] for item in dataclasses.fields(Settings)
    }
    defaults = {name: default for name, (default, _) in rows.items() if default}
    # The default of this one depends on the machine.
    del defaults["INGOT_SCRATCH_DIR"]
    assert Settings.from_environment(defaults) == Settings()


def test_every_renamed_setting_is_documented() -> None:
    rows = re.findall(r"^\| `(INGOT_\w+)` \| `(INGOT_\w+)` \|", UPGRADING.read_text(), re.MULTILINE)

    assert dict(rows) == RENAMED


def test_the_contract_says_how_each_reason_is_treated() -> None:
    text = (DOCS.parent / "proto/ingot/v1/reason.proto").read_text()
    comments = {
        name: comment for comment, name in re.findall(r"((?:  //.*\n)+)  REASON_(\w+) = ", text)
    }
    del comments["UNSPECIFIED"]

    assert {
        reason_name(reason): (
            treatment.transient,
            not treatment.transient,
            bool(treatment.cached_for),
        )
        for reason, treatment in TREATMENTS.items()
    } == {
        name: (
            "Transient" in comment,
            "Permanent" in comment,
            bool(re.search(r"(?<!not )cached", comment)),
        )
        for name, comment in comments.items()
    }


def test_every_cached_reason_is_documented_with_its_time() -> None:
    text = (DOCS / "sources.md").read_text()
    documented = {
        reason.strip(): cells[2].strip()
        for line in text.splitlines()
        if len(cells := line.split("|")) == 4
        for reason in cells[1].split(",")
    }

    assert not [
        reason_name(reason)
        for reason, treatment in TREATMENTS.items()
        if (minutes := treatment.cached_for // timedelta(minutes=1))
        and documented.get(reason_name(reason))
        != (f"{minutes} minutes" if minutes > 1 else "1 minute")
    ]


@pytest.mark.parametrize("page", ["architecture.md", "how-it-works.md"])
def test_every_module_on_the_map_is_there(page: str) -> None:
    text = (DOCS / page).read_text()
    found = {
        path.name
        for folder in ("server", "tests")
        for path in DOCS.parent.glob(f"{folder}/**/*.py")
    }

    assert set(re.findall(r"\w+\.py\b", text)) <= found


def test_the_pictures_are_what_their_script_draws() -> None:
    script = runpy.run_path(str(DOCS / "pictures.py"))
    for name, draw in script["PICTURES"].items():
        assert (DOCS / "images" / name).read_text() == str(draw()), "python docs/pictures.py"


def test_the_recording_is_an_asciicast_and_a_picture_of_its_last_line() -> None:
    header, *events = map(json.loads, (DOCS / "images/demo.cast").read_text().splitlines())
    times = [at for at, kind, _ in events if kind == "o"]
    picture = ElementTree.parse(DOCS / "images/demo.svg")

    assert header["version"] == 2
    assert times == sorted(times)
    assert len(times) == len(events)
    assert events[-1][2].strip() in "".join(picture.getroot().itertext())


def test_the_navigation_of_the_site_has_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r"- (?:\w[^:\n]*: )?([^\s:]+\.md)$", nav, re.MULTILINE)
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}

    assert [page for page, times in Counter(named).items() if times > 1] == []
    missing, gone = sorted(pages - set(named)), sorted(set(named) - pages)
    assert not missing, f"put these pages of docs/ into `nav` of mkdocs.yml: {missing}"
    assert not gone, f"`nav` of mkdocs.yml names pages that docs/ does not have: {gone}"


def test_links_lead_to_files_of_the_repository() -> None:
    broken = []
    for page in PAGES:
        for link in re.findall(r"(?:\]\(|src(?:set)?=\")([^)\s\"#]+)", page.read_text()):
            target = page.parent / link
            if link.startswith(FORGE):
                target = ROOT / link.removeprefix(FORGE)
            elif re.match(r"https?:|mailto:", link):
                continue
            if not target.exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")

    assert not broken
