"""Record `make demo` in a terminal: `make recording` writes docs/images/demo.cast and demo.svg.

The first is an asciicast (docs.asciinema.org/manual/asciicast/v2), which `asciinema play` shows.
The second is the same as one animated picture without scripts, which the forge and the site show.
Pyte is the terminal: it makes screens of what the programs write.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import sys
import termios
import time
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path

import pyte

IMAGES = Path(__file__).parent / "images"
COLUMNS, ROWS = 100, 26
TYPED = "make demo"
# It is installed already, as whoever runs this knows.
COMMAND = ["make", "--silent", "--old-file=install", "demo"]
LONGEST_PAUSE = 1.5
"""Seconds; a longer wait for a program is shown as this."""
LEAST_PAUSE = 0.15
"""Seconds; screens that follow each other faster are not shown, but for the last one."""
END_PAUSE = 5.0
WIDTH, HEIGHT = 8.43, 19
"""Pixels of a character, in a font of 14 pixels."""
COLOURS = {
    "default": "#e5e7eb",
    "black": "#6b7280",
    "red": "#f87171",
    "green": "#4ade80",
    "brown": "#facc15",
    "blue": "#60a5fa",
    "magenta": "#e879f9",
    "cyan": "#22d3ee",
    "white": "#f9fafb",
}

Event = tuple[float, str]


def record() -> list[Event]:
    """Run COMMAND in a terminal, and return what it wrote and when, in seconds."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execvp(COMMAND[0], COMMAND)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    events = [(0.0, "$ "), *((0.5 + 0.08 * at, key) for at, key in enumerate(TYPED))]
    events.append((events[-1][0] + 0.5, "\r\n"))
    offset, began, pending = events[-1][0], time.monotonic(), b""
    while chunk := _read(terminal):
        pending += chunk
        text = pending.decode(errors="ignore")
        pending = pending[len(text.encode()) :]
        events.append((offset + time.monotonic() - began, text))
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit("".join(text for _, text in events))
    return events


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # every program has closed its end (pty(7))
        return b""


def without_long_pauses(events: list[Event]) -> Iterator[Event]:
    at = before = 0.0
    for moment, text in events:
        at += min(moment - before, LONGEST_PAUSE)
        before = moment
        yield at, text


def cast(events: list[Event]) -> str:
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": TYPED}
    lines = [json.dumps(header)]
    lines += [json.dumps([round(at, 3), "o", text]) for at, text in events]
    return "\n".join(lines) + "\n"


def screens(events: list[Event]) -> Iterator[tuple[float, list[str]]]:
    """Each screen as SVG's text of its rows, and when it begins."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    shown_at = -LEAST_PAUSE
    for number, (at, text) in enumerate(events):
        stream.feed(text)
        if at - shown_at >= LEAST_PAUSE or number == len(events) - 1:
            shown_at = at
            yield at, [_row(screen, row) for row in range(ROWS)]


def _row(screen: pyte.Screen, number: int) -> str:
    row = screen.buffer[number]
    characters = [(row[column].data, row[column].fg, row[column].bold) for column in range(COLUMNS)]
    while characters and characters[-1][0] == " ":
        del characters[-1]
    spans = []
    column = 0
    for (colour, bold), run in groupby(characters, key=lambda each: each[1:]):
        text = "".join(data for data, *_ in run)
        weight = ' font-weight="700"' if bold else ""
        fill = COLOURS.get(colour, f"#{colour}")
        spans.append(
            f'<tspan x="{column * WIDTH:.1f}" fill="{fill}"{weight}>{escape(text)}</tspan>'
        )
        column += len(text)
    return "".join(spans)


def svg(events: list[Event]) -> str:
    """A strip with all screens next to each other, which a style moves by a screen at a time."""
    frames = list(screens(events))
    distinct = dict.fromkeys(row for _, frame in frames for row in frame)
    rows = {row: f"r{number}" for number, row in enumerate(distinct)}
    width, height = round(COLUMNS * WIDTH) + 20, ROWS * HEIGHT + 20
    duration = frames[-1][0] + END_PAUSE
    steps = "".join(
        f"{100 * at / duration:.3f}%{{transform:translateX({-number * width}px)}}"
        for number, (at, _) in enumerate(frames)
    )
    last = f"transform:translateX({-(len(frames) - 1) * width}px)"
    pictures = "\n".join(
        f'<g transform="translate({number * width + 10} 24)">'
        + "".join(
            f'<use href="#{rows[row]}" y="{HEIGHT * at}"/>' for at, row in enumerate(frame) if row
        )
        + "</g>"
        for number, (_, frame) in enumerate(frames)
    )
    texts = "\n".join(f'<text id="{name}">{row}</text>' for row, name in rows.items() if row)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">
<title>A terminal in which {TYPED} runs</title>
<style>text{{white-space:pre}} g.film{{{last};animation:film {duration:.2f}s step-end infinite}}
@keyframes film{{{steps}100%{{{last}}}}}
@media (prefers-reduced-motion:reduce){{g.film{{animation:none}}}}</style>
<rect width="{width}" height="{height}" rx="8" fill="#111827"/>
<defs>
{texts}
</defs>
<g class="film">
{pictures}
</g>
</svg>
"""


def main() -> None:
    events = list(without_long_pauses(record()))
    (IMAGES / "demo.cast").write_text(cast(events))
    (IMAGES / "demo.svg").write_text(svg(events))


if __name__ == "__main__":
    main()
