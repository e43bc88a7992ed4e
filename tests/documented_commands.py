"""A reader of a page of docs/, who runs its commands and compares what they print.

A command is run with the addresses of a test in place of those on the page, in one shell language
with the functions and variables that the page has defined before it. In the output that a page
shows, `...` stands for anything, and white space and the characters of ids do not count. A command
that the page says is ended by Ctrl-C is ended so, after it has printed something.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.documented_pages import Command

INTERRUPTED = "# Ctrl-C ends it"
# Of grpcurl, when its -max-time is over: 64 and the code DEADLINE_EXCEEDED.
TIME_IS_OVER = 68

_FAILURE = re.compile("^(ERROR:|ingot: |ingot-server: )", re.MULTILINE)
_DEFINITION = re.compile(r"(export )?(\w+=\S*\s*)+(#.*)?|\w+=\$\(.*\)|\w+\(\) .*", re.DOTALL)
# The words of a page that stand for what the last response had.
_REMEMBERED = {
    "ID": re.compile(r'"job":\{"id":"([^"]+)"'),
    "TOKEN": re.compile(r'"resumeToken":"([^"]+)"'),
    "MEDIA_ID": re.compile(r'"media":\{"id":"([^"]+)"'),
}
_IDS = ("[0-9a-v]{26}", "[a-z2-7]{52}")


@dataclass(slots=True)
class Session:
    """One reader of a page, who runs its commands in `directory`.

    `replaced` maps words of the page to what a test has instead, and `words` the placeholders, such
    as URL. `output` has what the last command printed.
    """

    directory: Path
    replaced: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    output: str = ""
    _definitions: list[str] = field(default_factory=list)

    async def run(self, command: Command) -> None:
        """Run a command. It has to succeed, and to print what the page shows."""
        text = re.sub(r"\b([A-Z_]+) \.\.\.", r"\1", self._replace(command.text))
        for word, value in self.words.items():
            text = re.sub(rf"(?<![\w$]){word}\b", value, text)
        if _DEFINITION.fullmatch(text):
            self._definitions.append(text)
            return
        code = await self._execute(text, interrupted=INTERRUPTED in text)
        where = f"$ {text}\n{self.output}"
        if "-max-time" in text:
            assert code in {0, TIME_IS_OVER}, where
        elif INTERRUPTED not in text:
            assert (code == 0) == (_FAILURE.search(command.shown) is None), where
        # curl does not fail because of what the server responds.
        assert ('{"code"' in self.output) == ('{"code"' in command.shown), where
        for word, pattern in _REMEMBERED.items():
            if found := list(re.finditer(pattern, re.sub(r"(?<=[:{,])\s+", "", self.output))):
                self.words[word] = found[-1][1]
        self.compare(command)

    @asynccontextmanager
    async def running(self, text: str, last_line: str) -> AsyncIterator[str]:
        """Run a command until the context ends. The context gets what it printed up to a line."""
        process = await self._start(self._replace(text))
        assert process.stdout is not None
        printed = ""
        try:
            async for line in process.stdout:
                printed += line.decode()
                if re.match(last_line, line.decode()):
                    break
            else:
                raise AssertionError(printed)
            yield printed
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGINT)
                await process.communicate()

    def compare(self, command: Command) -> None:
        """Compare the last output with what the page shows after a command."""
        shown = self._replace(command.shown)
        assert not shown or _as_pattern(shown).fullmatch("".join(self.output.split())), (
            f"$ {command.text}\n{self.output}\n--- but the page shows\n{shown}"
        )

    def _replace(self, text: str) -> str:
        for word, value in self.replaced.items():
            text = text.replace(word, value)
        return text

    async def _execute(self, text: str, *, interrupted: bool) -> int | None:
        """Run a command, keep what it prints, and return its exit code."""
        process = await self._start(text)
        assert process.stdout is not None
        try:
            printed = b""
            if interrupted:
                # Once it prints, it runs. It need not end a line: one line may be a whole list.
                printed = await process.stdout.read(1)
                os.killpg(process.pid, signal.SIGINT)
            printed += await process.stdout.read()
            await process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
        self.output = printed.decode()
        return process.returncode

    async def _start(self, text: str) -> asyncio.subprocess.Process:
        script = "\n".join(["set -o pipefail", *self._definitions, text])
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )


def _as_pattern(shown: str) -> re.Pattern[str]:
    pattern = ".*".join(re.escape("".join(part.split())) for part in shown.split("..."))
    for form in _IDS:
        pattern = re.sub(rf"(?<![0-9a-z]){form}(?![0-9a-z])", form, pattern)
    return re.compile(pattern, re.DOTALL)
