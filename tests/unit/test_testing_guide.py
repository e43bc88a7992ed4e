"""The examples of docs/testing-your-service.md work as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[2] / "docs/testing-your-service.md"
EXAMPLES = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL))
NAMES = re.findall(r"^def (test_\w+)", EXAMPLES, re.MULTILINE)


@pytest.fixture(scope="module")
def examples() -> dict[str, Any]:
    """What the examples define, each of which may use those before it."""
    namespace: dict[str, Any] = {"__name__": "examples"}
    exec(compile(EXAMPLES, GUIDE, "exec"), namespace)
    return namespace


def test_the_guide_has_examples() -> None:
    assert len(NAMES) == 3


@pytest.mark.parametrize("name", NAMES)
def test_an_example_passes(name: str, examples: dict[str, Any]) -> None:
    example: Callable[[], None] = examples[name]
    example()
