"""Child programs: started, watched, started again when they die, and stopped in order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program as it is run: its own name for it, and how it says that it is ready."""

    name: str
    arguments: tuple[str, ...]
    ready: re.Pattern[str]  # found in a line that it prints once it is ready
    environment: Mapping[str, str] = field(default_factory=dict)  # besides our own
    directory: Path | None = None  # where it is started; None is where we were
