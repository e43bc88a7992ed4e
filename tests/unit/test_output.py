"""The output of a service never stops it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from ingot_server.output import LossyOutput
from tests.waiting import TIMEOUT_SECONDS

LINE = "0123456789" * 100 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def test_what_is_written_arrives_in_order(pipe: tuple[int, int]) -> None:
    output = LossyOutput(pipe[1])
    for number in range(100):
        print(number, "ä", file=output)
    output.wait_until_written()
    with os.fdopen(pipe[0], encoding="utf-8") as lines:
        assert [next(lines) for _ in range(100)] == [f"{number} ä\n" for number in range(100)]


def test_a_reader_that_does_not_read_loses_lines_and_is_told(pipe: tuple[int, int]) -> None:
    output = LossyOutput(pipe[1])
    for _ in range(3000):
        output.write(LINE)

    told = threading.Event()

    def read() -> None:
        with os.fdopen(pipe[0]) as lines:
            for line in lines:
                if line.startswith("ingot-server: "):
                    told.set()
                    return

    reading = threading.Thread(target=read)
    reading.start()
    while not told.wait(0.01):
        output.write(LINE)
    reading.join(TIMEOUT_SECONDS)


def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    output = LossyOutput(pipe[1])
    os.close(pipe[0])
    for _ in range(3000):
        output.write(LINE)
        output.flush()
    output.wait_until_written()
