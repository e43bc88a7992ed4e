"""Programs that some tests need and that Ingot does not install."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[1] / ".cache" / "bin"


def find_program(name: str) -> str:
    """The path of a program, in the PATH or built by .ci/run; without it the test is skipped.

    With REQUIRE_ALL_SERVERS the test fails instead.
    """
    found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}{BUILT}")
    if found is None:
        if os.environ.get("REQUIRE_ALL_SERVERS"):
            raise FileNotFoundError(name)
        pytest.skip(f"{name} is neither in the PATH nor in {BUILT}")
    return found
