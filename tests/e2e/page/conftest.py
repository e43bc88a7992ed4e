"""The web page of a running Ingot, in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright

from tests.installation import Installation
from tests.programs import find_program

# How long a test waits for what the page should show. The machine may be busy.
TIMEOUT_MS = 30_000


@dataclass
class Window:
    """A window of the browser, and what went wrong in it."""

    page: Page
    address: str
    violations: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    async def open(self, place: str = "#/") -> Page:
        await self.page.goto(f"{self.address}{place}")
        await self.page.get_by_role("navigation").wait_for()
        return self.page

    def note(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.violations.append(message.text)

    def note_failure(self, error: Error) -> None:
        self.failures.append(str(error))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    executable = find_program("chromium")
    async with async_playwright() as driver:
        running = await driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield running
        await running.close()


async def open_window(browser: Browser, address: str, **options: object) -> Window:
    context = await browser.new_context(accept_downloads=True, **options)  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    window = Window(page, address)
    page.on("console", window.note)
    page.on("pageerror", window.note_failure)
    page.on("request", lambda request: window.hosts.add(request.url.split("/")[2]))
    return window


@pytest.fixture
async def window(browser: Browser, ingot: Installation) -> AsyncIterator[Window]:
    """A window that must not break the policy or throw, whatever the test does."""
    opened = await open_window(browser, ingot.wait_for(r"^page\s+(\S+)")[1])
    yield opened
    assert opened.violations == []
    assert opened.failures == []
