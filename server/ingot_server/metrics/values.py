"""The values of a process's metrics: plain numbers, which cost a call less than a microsecond.

Processes that are scraped together keep them in files of one directory, one pair for each process:

    NAME.keys     a line of JSON for each key, in the order of their cells:
                  [number of cells, metric, labels...]
    NAME.values   the cells: doubles in the byte order of the machine, mapped into memory

Whoever answers a scrape reads the files of all. A process that is started again under its name goes
on with what it has counted, so a counter never decreases, and there are no more files than names.

A cell is changed by one thread of one process alone. A double is written at once, so a reader sees
the value before or after. Keys only come to the end, and the cells of a key exist before it does.
"""

from __future__ import annotations

import json
import mmap
import threading
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

Key: TypeAlias = tuple[str, ...]
"""The name of a metric, and the values of its labels in their order."""
Snapshot: TypeAlias = Mapping[Key, Sequence[float]]
"""The cells of each key at one time."""

CELLS: Final = 1 << 15
"""How many cells a process has at most. All labels have closed lists, which need fewer."""
_CELL_BYTES: Final = 8
# What finds no cell any more is counted here, and not shown.
_SPARE_CELLS: Final = 64
_KEYS: Final = ".keys"
_VALUES: Final = ".values"


class Values:
    """The values of one process, in its memory until `share` puts them into files."""

    def __init__(self) -> None:
        self.cells: array[float] | memoryview[float] = array("d", bytes(_SPARE_CELLS * _CELL_BYTES))
        self._places: dict[Key, tuple[int, int]] = {}
        self._end = _SPARE_CELLS
        self._keys: Path | None = None
        self._adding = threading.Lock()

    def place(self, key: Key, count: int = 1) -> int:
        """Return the first of the `count` cells of a key, which are 0 if it is new."""
        found = self._places.get(key)
        return found[0] if found is not None else self._add(key, count)

    def keys_of(self, metric: str) -> list[Key]:
        """Return the keys of a metric."""
        return [key for key in tuple(self._places) if key[0] == metric]

    def snapshot(self) -> Snapshot:
        """Return the values of now."""
        places = tuple(self._places.items())
        return {key: tuple(self.cells[at : at + count]) for key, (at, count) in places}

    def share(self, path: Path, *, restart: Mapping[str, float]) -> None:
        """Keep the values in files that begin with `path`, and go on with what these have.

        What has been counted so far is added to it. The metrics in `restart` begin with the value
        there: what the files have of them is about a process that has ended. Raises OSError.
        """
        counted = self.snapshot()
        with path.with_suffix(_VALUES).open("a+b") as file:
            file.truncate(CELLS * _CELL_BYTES)
            cells = memoryview(mmap.mmap(file.fileno(), CELLS * _CELL_BYTES)).cast("d")
        keys = path.with_suffix(_KEYS)
        places, end, complete_bytes = _read_keys(keys)
        with keys.open("ab") as file:
            file.truncate(complete_bytes)
        for key, (at, count) in places.items():
            if key[0] in restart:
                cells[at : at + count] = array("d", [restart[key[0]]] * count)
        self.cells, self._places, self._end, self._keys = cells, places, end, keys
        for key, values in counted.items():
            at = self.place(key, len(values))
            for offset, value in enumerate(values):
                self.cells[at + offset] += value

    def _add(self, key: Key, count: int) -> int:
        with self._adding:
            if key in self._places:
                return self._places[key][0]
            at = self._end
            if at + count > CELLS:
                return 0
            if isinstance(self.cells, array):
                self.cells.extend([0.0] * count)
            elif self._keys is not None:
                with self._keys.open("ab") as file:
                    file.write(json.dumps([count, *key]).encode() + b"\n")
            self._end += count
            self._places[key] = (at, count)
            return at


def read_shared(directory: Path) -> list[Snapshot]:
    """Return the values of all processes that share theirs in a directory."""
    return [_read(path) for path in sorted(directory.glob(f"*{_KEYS}"))]


def _read(keys: Path) -> Snapshot:
    places, _, _ = _read_keys(keys)
    cells = memoryview(keys.with_suffix(_VALUES).read_bytes()).cast("d")
    return {key: tuple(cells[at : at + count]) for key, (at, count) in places.items()}


def _read_keys(path: Path) -> tuple[dict[Key, tuple[int, int]], int, int]:
    """Return the first cell and the number of cells of each key, and the ends of both."""
    content = path.read_bytes() if path.exists() else b""
    complete = content[: content.rfind(b"\n") + 1]
    places, end = {}, _SPARE_CELLS
    for line in complete.splitlines():
        count, *key = json.loads(line)
        places[tuple(key)] = (end, count)
        end += count
    return places, end, len(complete)


VALUES: Final = Values()
"""The values of this process."""
