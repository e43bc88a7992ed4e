"""The state of the installation on the web page: what runs, and what to do if nothing can."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.e2e.page.conftest import Window, open_window
from tests.installation import installation


async def test_workers_and_sources_are_shown_as_they_are(window: Window) -> None:
    page = await window.open("#/system")
    await expect(page.get_by_text("All is well")).to_be_visible()
    rows = page.get_by_role("row")
    await expect(rows.filter(has_text="conversions")).to_have_count(1)
    sources = page.get_by_role("region", name="Sources").get_by_role("listitem")
    await expect(sources.filter(has_text="youtube")).to_contain_text("works")
    await expect(sources.filter(has_text="telegram_file")).to_contain_text("not set up")


async def test_what_is_wrong_is_said_with_what_to_do(browser: Browser, tmp_path: Path) -> None:
    with installation(tmp_path / "data", workers="0", convert_workers="0") as ingot:
        window = await open_window(browser, ingot.wait_for(r"^page\s+(\S+)")[1])
        page = await window.open("#/system")
        problems = page.get_by_role("status").filter(has_text="No worker for ingests")
        await expect(problems).to_contain_text("Start `ingot-server worker`")
        await expect(page.get_by_role("heading", name="No worker runs")).to_be_visible()
    assert window.violations == []
