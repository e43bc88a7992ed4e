"""Clocks that a run can set: libfaketime in each Python process reads its offset from a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PRELOADED: Final = Path(__file__).with_name("preloaded")
# Where Debian's package faketime has it, for either kind of processor.
_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Clocks:
    """The clocks of a cluster's processes, by name; they begin as they are."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()

    @property
    def can_be_set(self) -> bool:
        """Whether libfaketime is installed."""
        return bool(_LIBRARIES)

    def environment(self, name: str) -> dict[str, str]:
        """The variables with which the process `name` has a clock of its own."""
        if not self.can_be_set:
            return {}
        self.set(name, 0)
        modules = (str(_PRELOADED), os.environ.get("PYTHONPATH", ""))
        return {
            "LD_PRELOAD": str(_LIBRARIES[0]),
            "PYTHONPATH": os.pathsep.join(filter(None, modules)),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, name: str, offset_seconds: int) -> None:
        """Put a clock forward or back; the process sees it within a second."""
        self._file(name).write_text(f"{offset_seconds:+d}s")

    def _file(self, name: str) -> Path:
        return self._directory / name.replace(" ", "-")
