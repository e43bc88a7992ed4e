"""What a line of the log says, to people and to programs."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ingot_server
from ingot.v1 import reason_pb2
from ingot_server.event_log import EventLogger, JsonFormatter, TextFormatter, log_context
from ingot_server.log_events import Event
from ingot_server.process.program_log import ProgramLog
from ingot_server.setting_values import LogFormat

SOURCES = sorted(Path(ingot_server.__file__).parent.rglob("*.py"))


@pytest.fixture
def handler() -> Iterator[logging.StreamHandler[io.StringIO]]:
    """What the logger `ingot_server.example` writes, as JSON."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("ingot_server.example")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def logger() -> EventLogger:
    return EventLogger("ingot_server.example")


def lines(handler: logging.StreamHandler[io.StringIO]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in handler.stream.getvalue().splitlines()]


def test_a_line_has_its_event_and_what_it_is_about(
    handler: logging.StreamHandler[io.StringIO], logger: EventLogger
) -> None:
    logger.warning(
        *(Event.ATTEMPT_FAILED, "job %s: %s", "j1", "it is gone"),
        job_id="j1",
        attempt=2,
        reason=reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
    )
    [line] = lines(handler)
    assert line.pop("time").endswith("Z")
    assert line.pop("process") > 0
    assert line == {
        "level": "warning",
        "event": "attempt_failed",
        "logger": "ingot_server.example",
        "message": "job j1: it is gone",
        "job_id": "j1",
        "attempt": 2,
        "reason": "MEDIA_DOES_NOT_EXIST",
    }


async def test_everything_within_a_job_has_the_job(
    handler: logging.StreamHandler[io.StringIO], logger: EventLogger
) -> None:
    async def work(number: int) -> None:
        with log_context(job_id=f"j{number}"):
            await asyncio.sleep(0)
            logger.info(Event.COVER_LEFT_OUT, "of %d", number)
            await asyncio.to_thread(logger.info, Event.COVER_LEFT_OUT, "of %d", number)

    await asyncio.gather(*(work(number) for number in range(3)))
    logger.info(Event.SERVING, "after it")
    found = {(line["message"], line.get("job_id")) for line in lines(handler)}
    assert found == {("of 0", "j0"), ("of 1", "j1"), ("of 2", "j2"), ("after it", None)}


def test_an_exception_stays_on_its_line_and_has_no_secret(
    handler: logging.StreamHandler[io.StringIO], logger: EventLogger
) -> None:
    try:
        raise ValueError("cannot GET https://u:hunter2@h/x\nsig")
    except ValueError:
        logger.exception(
            Event.JOB_DEFECT, "of %s", "https://h/?key=hunter2", url="//?token=hunter2"
        )
    text = handler.stream.getvalue()
    assert text.count("\n") == 1
    assert "hunter2" not in text
    assert "Traceback" in lines(handler)[0]["exception"]


def test_a_line_of_a_library_is_an_event_too(
    handler: logging.StreamHandler[io.StringIO],
) -> None:
    logging.getLogger("ingot_server.example").warning("some %s", "text")
    [line] = lines(handler)
    assert (line["event"], line["message"]) == ("library", "some text")


def test_people_see_the_message_alone() -> None:
    record = logging.LogRecord("m", logging.INFO, "", 1, "job %s", ("j1",), None)
    assert TextFormatter("%(name)s: %(message)s").format(record) == "m: job j1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"time": "t", "event": "serving", "message": "here"}',
            {"time": "t", "event": "serving", "message": "here", "program": "worker 1"},
        ),
        ("* Ready", {"event": "program_output", "message": "* Ready", "program": "worker 1"}),
        ('{"time": 1', {"event": "program_output", "message": '{"time": 1'}),
        ('{"time": 1}', {"event": "program_output", "message": '{"time": 1}'}),
    ],
)
def test_lines_of_programs_become_events(line: str, expected: dict[str, object]) -> None:
    output = io.StringIO()
    ProgramLog("worker 1", output, LogFormat.JSON).show(line)
    written = json.loads(output.getvalue())
    assert {**written, **expected} == written


def test_what_becomes_of_a_program_is_an_event() -> None:
    output = io.StringIO()
    ProgramLog("worker 1", output, LogFormat.JSON).tell(Event.PROGRAM_ENDED, "ended with 1")
    written = json.loads(output.getvalue())
    assert (written["event"], written["level"]) == ("program_ended", "warning")
    assert written["message"] == "worker 1 ended with 1"


def test_every_event_is_logged_somewhere() -> None:
    used = {
        node.attr
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Event"
    }
    assert {event.name for event in Event} - used == set()


def test_every_line_goes_through_the_list_of_events() -> None:
    own = {"event_log.py", "cli.py", "worker_process.py", "probe_main.py", "cut_main.py"}
    own.add("trace_export.py")  # what a library logs becomes an event there
    loggers = [
        path.name
        for path in SOURCES
        if "logging.getLogger" in path.read_text() and path.name not in own
    ]
    assert loggers == []
