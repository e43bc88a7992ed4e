"""The web page of a running Ingot, in a real Chromium.

The tests of this folder share one browser, so they share its event loop too. Each has a profile of
its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Request,
    async_playwright,
    expect,
)

from ingot import Client
from tests.installation import Installation, installation
from tests.origin import Origin, running_origin
from tests.programs import find_program

# How long a test waits for what the page should show. The machine may be busy.
TIMEOUT_MS = 30_000

expect.set_options(timeout=TIMEOUT_MS)

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@dataclass
class Window:
    """A window of the browser, and what it did: each must be what the page may do."""

    page: Page
    address: str
    violations: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)

    async def open(self, place: str = "#/") -> Page:
        await self.page.goto(f"{self.address}{place}")
        await self.page.get_by_role("navigation").wait_for()
        return self.page

    def assert_well_behaved(self, *s3_endpoints: str) -> None:
        """It kept the policy, threw nothing, and asked its server and S3 only.

        It watched no job by itself: one stream of all jobs serves the page.
        """
        assert self.violations == []
        assert self.failures == []
        assert self.hosts <= {urlsplit(self.address).netloc, *s3_endpoints}
        assert not [path for path in self.paths if path.endswith("/WatchJob")]

    def note(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.violations.append(message.text)

    def note_failure(self, error: Error) -> None:
        self.failures.append(str(error))

    def note_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"blob", "data"}:
            self.hosts.add(address.netloc)
            self.paths.add(address.path)


@asynccontextmanager
async def new_browser() -> AsyncIterator[Browser]:
    executable = find_program("chromium")
    async with async_playwright() as driver:
        running = await driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield running
        await running.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with new_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """The browser, whose windows are closed after the test."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


async def open_window(browser: Browser, address: str, **options: object) -> Window:
    context = await browser.new_context(accept_downloads=True, **options)  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    window = Window(page, address)
    page.on("console", window.note)
    page.on("pageerror", window.note_failure)
    page.on("request", window.note_request)
    return window


def page_of(ingot: Installation) -> str:
    """The address of its page."""
    return ingot.wait_for(r"^page\s+(\S+)")[1]


@pytest_asyncio.fixture(loop_scope="session")
async def window(browser: Browser, ingot: Installation) -> AsyncIterator[Window]:
    """A window that must behave well, whatever the test does."""
    opened = await open_window(browser, page_of(ingot))
    yield opened
    opened.assert_well_behaved(ingot.s3_settings().s3_endpoint)


@pytest.fixture(scope="session")
def idle_ingot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An Ingot without workers: its jobs do only what a test does with them."""
    settings = {"workers": "0", "convert_workers": "0", "lease": "10m"}
    with installation(tmp_path_factory.mktemp("idle"), **settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def idle_window(browser: Browser, idle_ingot: Installation) -> AsyncIterator[Window]:
    """The page of `idle_ingot`."""
    opened = await open_window(browser, page_of(idle_ingot))
    yield opened
    opened.assert_well_behaved(idle_ingot.s3_settings().s3_endpoint)


@pytest_asyncio.fixture(loop_scope="session")
async def client(ingot: Installation) -> AsyncIterator[Client]:
    async with Client(ingot.grpc_address) as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="session")
async def idle_client(idle_ingot: Installation) -> AsyncIterator[Client]:
    async with Client(idle_ingot.grpc_address) as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="session")
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running
