"""The pages of the commands `ingot` and `ingot-server`, written from their argument parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ingot.arguments import build_parser as client_parser
from ingot_server.cli import build_parser as server_parser

_INTRODUCTIONS = {
    "ingot": "[The command line](../command-line.md) says what its commands do and print.",
    "ingot-server": "Each setting is an environment variable: see [Settings](../settings.md).",
}


def command_pages() -> dict[str, str]:
    """Map the name of each page to its text."""
    parsers = {"ingot": client_parser(), "ingot-server": server_parser()}
    return {f"{name}.md": _page(name, parser) for name, parser in parsers.items()}


def _page(name: str, parser: argparse.ArgumentParser) -> str:
    shared = list(_options(parser)) if name == "ingot" else []
    blocks = [f"# `{name}`", f"Generated from `{name} --help`. {_INTRODUCTIONS[name]}"]
    if shared:
        blocks += ["## Options of every command", "\n".join(shared)]
    for command, text, subparser in _commands(parser):
        blocks += [f"## {command}", _sentence(text)]
        described = [line for line in _arguments(subparser) if line not in shared]
        if described:
            blocks.append("\n".join(described))
    return "\n\n".join(blocks) + "\n"


def _commands(
    parser: argparse.ArgumentParser, before: str = ""
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each command with its description and parser; those of a group follow each other."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {each.dest: each.help or "" for each in action._choices_actions}
            for name, subparser in action.choices.items():
                parts = list(_commands(subparser, f"{before}{name} "))
                yield from parts or [(f"{before}{name}", texts[name], subparser)]


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            name = f"`{_placeholder(action)}`"
            if action.nargs in {"*", "+"}:
                name += " ..."
            yield _described(name, action)
    yield from _options(parser)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not action.option_strings or action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        names = ", ".join(f"`{name}{_value(action)}`" for name in action.option_strings)
        required = ", required" if action.required else ""
        yield _described(names + required, action)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    value = _placeholder(action)
    return f" [{value}]" if action.nargs == "?" else f" {value}"


def _placeholder(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _described(name: str, action: argparse.Action) -> str:
    if not action.help:
        return f"- {name}"
    return f"- {name}: {action.help % {'default': action.default, 'prog': ''}}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".") + "."
