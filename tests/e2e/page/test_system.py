"""The state of the installation on the web page: what runs, and what to do if nothing can."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import expect

from ingot_server.garbage_collection import collect_garbage
from ingot_server.library.blobs import Blobs
from tests.e2e.page.conftest import Window
from tests.e2e.page.test_every_view import ALL, axe
from tests.installation import Installation
from tests.integration.catalog.running_catalog import ID, new_media, opened


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


async def test_rules_of_retention_are_shown_with_what_is_due(
    idle_window: Window, idle_ingot: Installation, tmp_path: Path
) -> None:
    rules = tmp_path / "retention.toml"
    rules.write_text(
        '[[rule]]\nname = "short"\nmatch.labels = { a = "2" }\nmax_age = "1ms"\n'
        '[[rule]]\nname = "disk"\nmax_bytes = "9TiB"\n'
    )
    settings = idle_ingot.s3_settings().replace(
        redis_url=idle_ingot.redis_url, retention_file=str(rules)
    )
    blobs = Blobs(settings)
    async with opened(blobs, settings) as catalog:
        await catalog.commit(new_media(blobs))
        await collect_garbage(settings, delete=False, say=lambda _line: None)
        await catalog.delete(ID)
    await blobs.close()

    page = await idle_window.open("#/system")
    rows = page.get_by_role("region", name="Retention", exact=True).get_by_role("row")
    await expect(rows.nth(1)).to_have_text(re.compile(r"short\s*a=2: .*1 \(1\.1 TB\)\s*nothing"))
    await expect(rows.nth(2)).to_have_text(re.compile(r"disk\s*all media: .*nothing\s*nothing"))
    assert await axe(page, ALL) == []


async def test_what_is_wrong_is_said_with_what_to_do(idle_window: Window) -> None:
    page = await idle_window.open("#/system")
    problems = page.get_by_role("status").filter(has_text="No worker for ingests")
    await expect(problems).to_contain_text("Start `ingot-server worker`")
    await expect(page.get_by_role("heading", name="No worker runs")).to_be_visible()
