"""What commands name: the options of Ingot's own programs, targets of make, settings and files."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ingot.arguments import build_parser as client_parser
from ingot_server.cli import build_parser as server_parser
from ingot_server.config import Settings
from tests.documented_pages import ROOT

PROGRAMS = {"ingot": client_parser(), "ingot-server": server_parser()}
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
# What compose.yaml and the development server of the page read.
OTHER_VARIABLES = {"INGOT_IMAGE", "INGOT_HTTP"}

_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
_OPERATORS = {"|", "||", "&&", ";", "&", "(", ")"}
_REDIRECTIONS = {">", ">>", "<", ">&"}


def syntax_problem(script: str) -> str:
    """Return what bash says about the syntax of a script, or nothing."""
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    return checked.stderr


def problems_of(command: str) -> list[str]:
    """Return what is wrong with the names in a command, which bash can parse."""
    return [problem for words in _simple_commands(command) for problem in _problems(words)]


def _simple_commands(command: str) -> Iterator[list[str]]:
    """The words of each command of a pipeline or list, without redirections."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if word in _OPERATORS:
            yield words
            words = []
        elif word in _REDIRECTIONS:
            redirected = True
            if words and words[-1].isdigit():
                del words[-1]
        elif not redirected:
            words.append(word)
        else:
            redirected = False
    yield words


def _problems(words: list[str]) -> Iterator[str]:
    if words[:1] == ["export"]:
        words = words[1:]
    variables = {}
    while words and (assignment := _ASSIGNMENT.fullmatch(words[0])):
        variables[assignment[1]] = assignment[2]
        words = words[1:]
    for name in set(Settings.unknown(variables)) - OTHER_VARIABLES:
        yield f"{name} is not a setting"
    if not words:
        return
    yield from _program_problems(Path(words[0]).name, [each for each in words[1:] if each != "..."])
    for word in words[1:]:
        if _is_file_of_the_repository(word) and not (ROOT / word).exists():
            yield f"there is no {word}"


def _program_problems(program: str, words: list[str]) -> list[str]:
    if program in PROGRAMS:
        return usage_problems(program, words)
    if program != "make":
        return []
    named = [word for word in words if not word.startswith("-") and "=" not in word]
    return [f"the Makefile has no target {word}" for word in named if word not in TARGETS]


def usage_problems(program: str, words: list[str]) -> list[str]:
    """Return what `ingot` or `ingot-server` says about the usage of these words."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            PROGRAMS[program].parse_args(words)
        except SystemExit as exit_:
            if exit_.code:
                return said.getvalue().splitlines()[-1:]
    return []


def _is_file_of_the_repository(word: str) -> bool:
    first, slash, _ = word.partition("/")
    return bool(slash) and first in {"bench", "clients", "deploy", "docs", "server", "tests"}
