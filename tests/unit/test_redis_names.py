"""Names in Redis get their prefix in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ingot_server

ROOT = Path(ingot_server.__file__).parent
PREFIX = "ingot:"


def texts(path: Path) -> Iterator[str]:
    """The texts in a module that are not its documentation."""
    tree = ast.parse(path.read_text())
    documentation = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    }
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    yield from (text for text in strings if isinstance(text, str) and text not in documentation)


def test_no_module_writes_the_prefix_of_a_name_itself() -> None:
    found = {
        path.relative_to(ROOT)
        for path in ROOT.rglob("*.py")
        if any(text.startswith(PREFIX) for text in texts(path))
    }

    assert found == {Path("config.py")}


def test_no_script_writes_the_prefix_of_a_name_itself() -> None:
    scripts = list(ROOT.rglob("*.lua"))

    assert scripts
    for path in scripts:
        code = re.sub(r"--.*", "", path.read_text())
        assert PREFIX not in code, path
