"""The log of a process: events with fields, as lines for people or as JSON for programs.

A line of JSON has `time` (RFC 3339, UTC), `level`, `event`, `logger`, `process`, `message`, and the
fields of its event: `job_id`, `media_id`, `reason` and so on, which mean what they mean in the
contract. An exception is the field `exception`. No line has a secret that `redact` knows.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, cast

from ingot.v1.reason_pb2 import Reason
from ingot_server.log_events import Event
from ingot_server.reason_names import reason_name
from ingot_server.redaction import redact
from ingot_server.tracing.scopes import trace_fields

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Of the work that the current task does.
_CONTEXT: Final[ContextVar[Mapping[str, object]]] = ContextVar("log_context", default={})  # noqa: B039
# From the caller of a method of EventLogger.
_STACK_LEVEL: Final = 3


class EventLogger:
    """Logs the events of one module. In JSON, each of `fields` is a field of its own.

    The field `reason` is a Reason, and shown by its name.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: Event, message: str, *arguments: object, **fields: object) -> None:
        """Log what only a developer wants to see."""
        self._log(logging.DEBUG, event, message, arguments, fields)

    def info(self, event: Event, message: str, *arguments: object, **fields: object) -> None:
        """Log what happens in the usual course of things."""
        self._log(logging.INFO, event, message, arguments, fields)

    def warning(self, event: Event, message: str, *arguments: object, **fields: object) -> None:
        """Log what went wrong, and what Ingot goes on without."""
        self._log(logging.WARNING, event, message, arguments, fields)

    def error(
        self,
        event: Event,
        message: str,
        *arguments: object,
        exc_info: BaseException | None = None,
        **fields: object,
    ) -> None:
        """Log what an operator has to look at, with the stack of `exc_info`."""
        self._log(logging.ERROR, event, message, arguments, fields, exc_info)

    def exception(self, event: Event, message: str, *arguments: object, **fields: object) -> None:
        """Log the exception that is being handled, a defect, with its stack."""
        self._log(logging.ERROR, event, message, arguments, fields, True)

    def _log(
        self,
        level: int,
        event: Event,
        message: str,
        arguments: tuple[object, ...],
        fields: Mapping[str, object],
        exc_info: BaseException | bool | None = None,
    ) -> None:
        self._logger.log(
            level,
            message,
            *arguments,
            exc_info=exc_info,
            stacklevel=_STACK_LEVEL,
            extra={"event": event, "fields": {**_context(), **fields}},
        )


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Add fields to every event that this task logs within, and the tasks that it starts."""
    token = _CONTEXT.set({**_CONTEXT.get(), **fields})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def _context() -> Mapping[str, object]:
    return {**_CONTEXT.get(), **trace_fields()}


class TextFormatter(logging.Formatter):
    """Formats records for people, without secrets."""

    def __init__(self, text: str = _TEXT) -> None:
        super().__init__(text)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON, without secrets.

    A record of a library has the event `library`.
    """

    def format(self, record: logging.LogRecord) -> str:
        event: Event = getattr(record, "event", Event.LIBRARY)
        fields: Mapping[str, object] = getattr(record, "fields", _context())
        if record.exc_info:
            fields = {**fields, "exception": self.formatException(record.exc_info)}
        return json_line(
            event,
            record.getMessage(),
            level=record.levelname.lower(),
            logger=record.name,
            time=datetime.fromtimestamp(record.created, UTC),
            fields=fields,
        )


def json_line(
    event: Event,
    message: str,
    *,
    level: str,
    logger: str,
    time: datetime,
    fields: Mapping[str, object],
) -> str:
    """Return an event as a line of JSON, without its end. The texts of fields are redacted."""
    line: dict[str, object] = {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "event": event.event_name,
        "logger": logger,
        "process": os.getpid(),
        "message": redact(message),
    }
    for name, value in fields.items():
        if name == "reason":
            line[name] = reason_name(cast("Reason.ValueType", value))
        else:
            line[name] = value if isinstance(value, int | float) else redact(str(value))
    return json.dumps(line, ensure_ascii=False)
