"""The commands on the pages name what there is, also those that no test can run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.command_words import problems_of, syntax_problem, usage_problems
from tests.documented_pages import PAGES, ROOT, Block, Command, read_blocks

parametrize_pages = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)


@parametrize_pages
def test_commands_have_programs_options_settings_and_files_that_there_are(page: Path) -> None:
    problems = []
    for block in read_blocks(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.commands and (said := syntax_problem("\n".join(_texts(block)))):
            problems.append(f"{where}: {said}")
            continue
        for text in _texts(block):
            problems += [f"{where}: {text}: {problem}" for problem in problems_of(text)]

    assert not problems


@parametrize_pages
def test_commands_within_sentences_have_options_that_there_are(page: Path) -> None:
    # Of choices, the first: `bash|zsh|fish`, in a table with `\|`.
    text = re.sub(r"(\w)(\\?\|[a-z-]+)+", r"\1", page.read_text())
    named = re.findall(r"(?<!`)`(ingot|ingot-server) ([^`\n]+)`", text)

    assert not [
        f"{program} {words}: {problem}"
        for program, words in named
        for problem in usage_problems(program, shlex.split(words))
        # A sentence leaves out what it is not about, or has a word like FORMAT for it.
        if not re.search(r"are required:|invalid choice: '[A-Z]+'", problem)
    ]


@parametrize_pages
def test_blocks_that_are_not_commands_say_what_they_are(page: Path) -> None:
    assert not [block.line for block in read_blocks(page) if block.language == ""]


@parametrize_pages
def test_what_runs_commands_elsewhere_exists(page: Path) -> None:
    for block in read_blocks(page):
        for path in re.findall(r"\b(?:tests|clients)/[\w./]*\w", block.not_run):
            assert (ROOT / path).exists(), path
        if block.run_by:
            assert page.name in (ROOT / block.run_by).read_text()


def _texts(block: Block) -> list[str]:
    return [command.text for command in block.commands]


def test_a_page_is_read_as_blocks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n    curl a \\\n        b\n\n    buf c\n\nText\n\n"
        "<!-- Not run: it needs d -->\n\n    d\n\nText\n\n"
        '<!-- File: e.json -->\n\n```json\n{"e": 1}\n```\n\nMore\n\n'
        "    $ curl e |\n        tr f g\n    h\n    ...\n    $ curl i\n\n- a list\n    goes on\n"
    )

    blocks = read_blocks(page)

    assert [block.commands for block in blocks] == [
        [Command("curl a \\\n    b"), Command("buf c")],
        [Command("d")],
        [],
        [Command("curl e |\n    tr f g", "h\n..."), Command("curl i")],
    ]
    assert [(block.line, block.not_run, block.file) for block in blocks] == [
        (3, "", ""),
        (10, "it needs d", ""),
        (16, "", "e.json"),
        (24, "", ""),
    ]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("ingot ingest --max-agee 1 URL", "unrecognized arguments: --max-agee"),
        ("curl a | ingot mp4 URL", "invalid choice: 'mp4'"),
        ("INGOT_DATADIR=a ingot-server up", "INGOT_DATADIR is not a setting"),
        ("export INGOT_DATADIR=a", "INGOT_DATADIR is not a setting"),
        ("make up && make demos", "no target demos"),
        ("promtool test rules deploy/prometheus/alert.yaml", "no deploy/prometheus/alert.yaml"),
    ],
)
def test_a_name_that_there_is_not_is_found(command: str, problem: str) -> None:
    (found,) = problems_of(command)
    assert problem in found


def test_a_script_that_bash_cannot_parse_is_found() -> None:
    assert "unexpected" in syntax_problem("ingot list | | jq")
    assert not syntax_problem("ingot list | jq . # its words")
