"""The lines of supervised programs, with the name of the program, in the log of who runs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final, TextIO

from ingot_server.event_log import json_line
from ingot_server.log_events import Event
from ingot_server.setting_values import LogFormat

_LEVELS: Final = {
    Event.PROGRAM_OUTPUT: "info",
    Event.PROGRAM_ENDED: "warning",
    Event.PROGRAM_KILLED: "warning",
}


class ProgramLog:
    """Writes what a program says, and what becomes of it."""

    def __init__(self, program: str, output: TextIO, log_format: LogFormat) -> None:
        self._program = program
        self._output = output
        self._is_json = log_format is LogFormat.JSON

    def show(self, line: str) -> None:
        """Write a line of the program. An event of Ingot keeps its fields, and gets one more."""
        if not self._is_json:
            self._write(f"{self._program:<9} {line}")
        elif (fields := _event_of(line)) is not None:
            self._write(json.dumps({**fields, "program": self._program}, ensure_ascii=False))
        else:
            self._write(self._event(Event.PROGRAM_OUTPUT, line))

    def tell(self, event: Event, what: str) -> None:
        """Write what has become of the program."""
        if self._is_json:
            self._write(self._event(event, f"{self._program} {what}"))
        else:
            self._write(f"ingot-server: {self._program} {what}")

    def _event(self, event: Event, message: str) -> str:
        return json_line(
            event,
            message,
            level=_LEVELS[event],
            logger=__name__,
            time=datetime.now(UTC),
            fields={"program": self._program},
        )

    def _write(self, line: str) -> None:
        self._output.write(line + "\n")
        self._output.flush()


def _event_of(line: str) -> dict[str, object] | None:
    """Return the fields of a line that is an event of Ingot, else None."""
    if not line.startswith('{"time"'):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "event" in fields else None
