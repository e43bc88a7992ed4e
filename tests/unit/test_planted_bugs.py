"""Every bug that the chaos suite has to find can still be planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.claims import CLAIMS
from tests.chaos.planted_bugs import BUGS, PlantedBug

SERVER = Path(__file__).parents[2] / "server" / "ingot_server"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_what_the_bug_replaces_is_there_once(bug: PlantedBug) -> None:
    for edit in bug.edits:
        assert (SERVER / edit.file).read_text().count(edit.old) == 1, edit


def test_every_bug_breaks_a_claim_of_the_suite() -> None:
    claims = {claim.__name__ for claim in CLAIMS}
    assert {bug.breaks for bug in BUGS if bug.edits} <= claims
    assert [bug.name for bug in BUGS if not bug.breaks] == ["none"]


def test_at_least_ten_guards_are_undone() -> None:
    assert sum(bool(bug.edits) for bug in BUGS) >= 10
