"""The state of the installation on the web page: what runs, and what to do if nothing can."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.e2e.page.conftest import Window


async def test_workers_and_sources_are_shown_as_they_are(window: Window) -> None:
    page = await window.open("#/system")
    await expect(page.get_by_text("All is well")).to_be_visible()
    rows = page.get_by_role("row")
    await expect(rows.filter(has_text="all jobs")).to_have_count(1)
    sources = page.get_by_role("region", name="Sources").get_by_role("listitem")
    await expect(sources.filter(has_text="youtube")).to_contain_text("works")
    await expect(sources.filter(has_text="telegram_file")).to_contain_text("not set up")


async def test_a_caller_sees_its_limits_and_what_it_uses(window: Window) -> None:
    page = await window.open("#/system")
    limits = page.get_by_role("region", name="Your limits")
    # The page itself watches all jobs.
    await expect(limits).to_contain_text(re.compile(r"Open watches\s*[1-9]\d* of 1,000"))
    # It has no limit of jobs, so there is none to show.
    await expect(limits.get_by_text("Jobs", exact=True)).to_have_count(0)


async def test_what_is_wrong_is_said_with_what_to_do(idle_window: Window) -> None:
    page = await idle_window.open("#/system")
    problems = page.get_by_role("status").filter(has_text="No worker for ingests")
    await expect(problems).to_contain_text("Start `ingot-server worker`")
    await expect(page.get_by_role("heading", name="No worker runs")).to_be_visible()
