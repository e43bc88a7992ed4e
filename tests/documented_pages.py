"""The blocks of code on the pages for readers, and the commands in them.

A block that is indented by four spaces has commands of a shell, and so has one in fences that says
`sh` or `bash`. Every other block is in fences and says what it is. In a block that begins with
`$ `, the lines without it are what the commands print; `...` in them stands for anything.

Tests run every command of a page in order, in one directory. What cannot run there says why, in a
comment before its block: `<!-- Not run: it needs Docker -->`. `<!-- Run by: PATH -->` names a test
of its own. `<!-- File: NAME -->` before a block in fences puts the block into a file, as a reader
of the page would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What `make generate` writes, and the list of changes, have no commands.
PAGES = sorted(
    [
        *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/runbooks/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        *ROOT.glob("clients/*/README.md"),
    ]
)
SHELLS = ("", "sh", "bash")

_CONTINUED = ("\\", "|")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>Not run|Run by|File): (?P<text>[^\n]+) -->\n+)?"
    r"(?:^```(?P<language>\S*)\n(?P<fenced>.*?)^```$"
    r"|(?:(?<=\n\n)|\A)(?P<indented>(?:^ {4}[^\n]*\n(?:\n+(?= {4}))?)+))",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as the page has it, and the output that follows it there."""

    text: str
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code. `language` is None if it is indented.

    `not_run` says why its commands are not run, `run_by` names the test that runs them, and `file`
    is the name of the file that it is.
    """

    line: int
    language: str | None
    text: str
    not_run: str = ""
    run_by: str = ""
    file: str = ""

    @property
    def commands(self) -> list[Command]:
        if self.language is None or self.language in SHELLS:
            return list(_split(self.text.splitlines()))
        return []


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text() + "\n"
    blocks = []
    for found in _BLOCK.finditer(text):
        indented = found["indented"]
        content = found["fenced"] if indented is None else re.sub("(?m)^ {4}", "", indented)
        blocks.append(
            Block(
                text.count("\n", 0, found.start()) + 1,
                found["language"],
                content.rstrip() + "\n",
                **{found["mark"].lower().replace(" ", "_"): found["text"]} if found["mark"] else {},
            )
        )
    return blocks


def _split(block: list[str]) -> Iterator[Command]:
    with_output = block[0].startswith("$ ")
    command: list[str] = []
    shown: list[str] = []
    for line in block:
        if command and command[-1].endswith(_CONTINUED):
            command.append(line)
        elif not line.strip():
            continue
        elif not with_output or line.startswith("$ "):
            if command:
                yield Command("\n".join(command), "\n".join(shown))
            command, shown = [line.removeprefix("$ ")], []
        else:
            shown.append(line)
    yield Command("\n".join(command), "\n".join(shown))
