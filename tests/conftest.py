import logging
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.leaks import LeakHandler
from tests.media import media
from tests.model.job_model import STEPS_OF_MODEL
from tests.origin import Origin, running_origin
from tests.servers import STACKS

# A run in the background may ignore Ctrl-C, and the programs that it starts would too. SIGTERM ends
# a run as Ctrl-C does, so that fixtures are closed.
for _number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(_number, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what says nothing new on a second pair of stores."""
    repeated = [
        item
        for item in items
        if item.get_closest_marker("any_stores")
        and isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("stack", STACKS[0]) != STACKS[0]
    ]
    if repeated:
        config.hook.pytest_deselected(items=repeated)
        kept = set(map(id, repeated))
        items[:] = [item for item in items if id(item) not in kept]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why tests were skipped, a line for each reason, and how far the model has gone."""
    skipped = terminalreporter.getreports("skipped")
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")
    properties = [
        each for report in terminalreporter.getreports("passed") for each in report.user_properties
    ]
    if steps := sum(value for name, value in properties if name == STEPS_OF_MODEL):
        terminalreporter.write_line(f"{steps} {STEPS_OF_MODEL}")


@pytest.fixture(scope="session", autouse=True)
def no_leak() -> Iterator[None]:
    """What servers in the process of the tests log has no secret."""
    handler = LeakHandler()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    assert not handler.found, f"a secret was logged: {handler.found[:5]}"


@pytest.fixture(scope="session")
def clip() -> bytes:
    """An MP4 of two seconds, H.264 and AAC."""
    return media("plain.mp4").read_bytes()


@pytest.fixture(scope="session")
def other_clip() -> bytes:
    """Another MP4 of two seconds."""
    return media("faststart.mp4").read_bytes()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which no process listens, and that no other process gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running
