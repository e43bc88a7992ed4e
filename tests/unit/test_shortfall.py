from __future__ import annotations

from typing import Any

import pytest

from ingot_server.extractor.formats import Wanted
from ingot_server.extractor.shortfall import Announced, shortfall

BEST = Wanted(audio_only=False)
WHOLE = {"height": 360, "vcodec": "avc1", "acodec": "mp4a"}
PICTURE = {"height": 720, "vcodec": "avc1", "acodec": "none"}
BOT = "LOGIN_REQUIRED: Sign in to confirm you're not a bot"
TOKEN = "x: web client https formats require a GVS PO Token which was not provided."
SCRIPT = "[youtube] x: n challenge solving failed: Some formats may be missing. Ensure"
SABR = "x: Some web client https formats have been skipped: YouTube is forcing SABR streaming"


@pytest.mark.parametrize(
    ("remarks", "causes"),
    [
        ([], []),
        (["Some other remark"], []),
        ([BOT], ["BOT_CHECK"]),
        ([TOKEN], ["PO_TOKEN"]),
        ([SCRIPT], ["JAVASCRIPT"]),
        ([SABR, BOT], ["BOT_CHECK", "PROTOCOL"]),
    ],
)
def test_what_was_announced_and_not_given_has_its_causes(
    remarks: list[str], causes: list[str]
) -> None:
    found = shortfall(Announced({360, 1080}, remarks), [WHOLE], BEST)

    assert found is not None
    assert (found["announced_height"], found["available_height"]) == (1080, 360)
    assert found["causes"] == causes
    assert "up to 1080 pixels" in found["message"]


@pytest.mark.parametrize(
    ("announced", "formats", "wanted"),
    [
        (Announced({360, 720}, [SABR]), [WHOLE, PICTURE], BEST),
        (Announced({360, 1080}), [WHOLE], Wanted(audio_only=False, max_height=480)),
        (Announced({360, 1080}), [WHOLE], Wanted(audio_only=True)),
        (Announced(), [WHOLE], BEST),
        # It gave its formats to another client.
        (Announced(set(), [BOT, SABR]), [WHOLE, PICTURE], BEST),
        (Announced({1080}), [], BEST),
        # All that it withholds is listed, and none of it is better.
        (Announced({144, 360}, [SABR]), [WHOLE], BEST),
        (Announced({360}, [BOT]), [WHOLE], Wanted(audio_only=False, max_height=360)),
    ],
)
def test_nothing_is_said_to_be_missing_without_a_sign_of_it(
    announced: Announced, formats: list[dict[str, Any]], wanted: Wanted
) -> None:
    assert shortfall(announced, formats, wanted) is None


def test_a_source_that_withholds_formats_may_have_more_than_it_says() -> None:
    found = shortfall(Announced({360}, [BOT]), [WHOLE], BEST)

    assert found is not None
    assert (found["announced_height"], found["causes"]) == (0, ["BOT_CHECK"])


def test_not_all_remarks_are_kept() -> None:
    announced = Announced()
    for _ in range(1000):
        announced.note("x" * 1000)

    assert len(announced.remarks) == 200
    assert {len(remark) for remark in announced.remarks} == {500}
