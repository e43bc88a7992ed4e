"""Write the table of docs/settings.md from `ingot_server/config.py`; the rest of the page stays.

python docs/generate_settings.py            in its place
python docs/generate_settings.py FILE       the page as it should be, into FILE
"""

from __future__ import annotations

import dataclasses
import re
import sys
from datetime import timedelta
from pathlib import Path

from ingot_server.config import PREFIX, Settings
from ingot_server.setting_values import ByteSize, format_value

PAGE = Path(__file__).parent / "settings.md"
# Its default has the id of the user who runs this.
DEFAULTS = {"scratch_dir": "/tmp/ingot-scratch-UID"}

# The help texts name pages, which are links here.
PAGES = re.compile(r"\b[a-z-]+\.md\b")

_BYTES = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
_TIMES = [
    ("d", timedelta(days=1)),
    ("h", timedelta(hours=1)),
    ("m", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
    ("ms", timedelta(milliseconds=1)),
]


def default_text(value: object) -> str:
    """Write a value as people do: in the largest unit of which it is a multiple."""
    if isinstance(value, timedelta):
        for unit, one in _TIMES:
            if value and not value % one:
                return f"{value // one}{unit}"
    if isinstance(value, ByteSize):
        for name, size in _BYTES:
            if value and not value % size:
                return f"{value // size}{name}"
    return "0" if isinstance(value, timedelta) else format_value(value)


def table() -> str:
    """The rows of all settings, in the order of the code."""
    rows = []
    for item in dataclasses.fields(Settings):
        default = DEFAULTS.get(item.name, default_text(item.default))
        text = PAGES.sub(r"[\g<0>](\g<0>)", item.metadata["doc"])
        quoted = f"`{default}`" if default else ""
        rows.append(f"| `{PREFIX}{item.name.upper()}` | {quoted} | {text} |\n")
    return "".join(rows)


def main(output: Path) -> None:
    text, tables = re.subn(
        r"(?:^\| `INGOT_.*\n)+", lambda _: table(), PAGE.read_text(), count=1, flags=re.MULTILINE
    )
    if not tables:
        sys.exit(f"{PAGE} has no table of settings")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE)
