"""The picture of docs/performance.md follows from the table there."""

from xml.etree import ElementTree as ET

import pytest

from bench.picture import TABLE, rows, svg

HEAD = "| what | limit | measured | command |\n| --- | --- | --- | --- |\n"


@pytest.mark.parametrize(
    ("limit", "measured", "share"),
    [
        ("at most 1.10", "1.21; others 1.0", 1.1),
        ("at least 20, linear in cores", "40 on 2", 0.5),
        ("median 400 ms", "0.1 s", 0.25),
        ("150 MB above idle", "75,000 KB above 9 MB", 0.5),
        ("1 MiB", "512 KiB", 0.5),
    ],
)
def test_a_share_compares_the_first_number_of_both_cells(
    limit: str, measured: str, share: float
) -> None:
    [row] = rows(f"text\n\n{HEAD}| a | {limit} | {measured} | `b` |\n\nmore\n")
    assert row.share == pytest.approx(share)


def test_a_row_whose_limit_is_no_number_has_no_bar() -> None:
    assert list(rows(f"{HEAD}| a | seconds | 6.4 s | `b` |\n")) == []


@pytest.mark.parametrize("measured", ["fast", "3 s"])
def test_what_cannot_be_compared_is_an_error(measured: str) -> None:
    with pytest.raises(ValueError, match="'a'"):
        list(rows(f"{HEAD}| a | 3 MB | {measured} | `b` |\n"))


def test_the_table_can_be_drawn() -> None:
    table = list(rows(TABLE.read_text()))
    assert table
    drawn = ET.fromstring(svg(table, "a machine < another"))
    assert len(drawn.findall("{*}rect")) == len(table) + 1
