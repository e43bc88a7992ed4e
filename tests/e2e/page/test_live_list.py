"""The list of jobs while they run: it stays smooth with many, and lets the reader read."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from playwright.async_api import CDPSession, Page, expect

from ingot import Client
from tests.e2e.page.claimed_jobs import claimed_jobs
from tests.e2e.page.conftest import Window, new_browser, open_window, page_of
from tests.installation import Installation
from tests.origin import Origin

CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel"]


class TracedTasks:
    """The tasks of the page's main thread, as Chromium's tracing records them."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        self._events: list[dict[str, Any]] = []
        self._complete = asyncio.Event()
        session.on("Tracing.dataCollected", lambda found: self._events.extend(found["value"]))
        session.on("Tracing.tracingComplete", lambda _: self._complete.set())

    async def milliseconds(self) -> list[float]:
        """End the tracing; return the processor time of each task.

        Its time by the clock also has what other processes did meanwhile.
        """
        await self._session.send("Tracing.end")
        await self._complete.wait()
        main_threads = {
            (each["pid"], each["tid"])
            for each in self._events
            if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
        }
        return [
            each["tdur"] / 1000
            for each in self._events
            if each["name"] == "RunTask"
            and "tdur" in each
            and (each["pid"], each["tid"]) in main_threads
        ]


async def trace_tasks(page: Page) -> TracedTasks:
    """Begin to record the tasks of the page."""
    session = await page.context.new_cdp_session(page)
    tasks = TracedTasks(session)
    await session.send("Tracing.start", {"traceConfig": {"includedCategories": CATEGORIES}})
    return tasks


async def scroll(page: Page, times: int) -> None:
    for _ in range(times):
        await page.mouse.wheel(0, 400)
        await page.wait_for_timeout(50)


async def first_line(page: Page) -> str:
    """The title of the first line of the list that is in view."""
    title = await page.evaluate("""() => {
        const top = document.querySelector(".box").getBoundingClientRect().top;
        const lines = [...document.querySelectorAll("a[data-job]")];
        return lines.find((line) => line.getBoundingClientRect().top >= top).textContent;
    }""")
    return str(title)


async def test_a_thousand_live_jobs_do_not_block_the_page(idle_ingot: Installation) -> None:
    # Tracing records a whole browser, so it needs one of its own.
    async with new_browser() as browser, asyncio.timeout(200):
        window = await open_window(browser, page_of(idle_ingot))
        await measure_a_thousand_live_jobs(await window.open("#/jobs"), idle_ingot)
        window.assert_well_behaved(idle_ingot.s3_settings().s3_endpoint)


async def measure_a_thousand_live_jobs(page: Page, idle_ingot: Installation) -> None:
    tasks = await trace_tasks(page)
    async with claimed_jobs(idle_ingot) as jobs:
        await jobs.start(1000, "Live")
        running = page.get_by_role("button", name="Running").first
        await expect(running).to_contain_text("1,000")
        await page.mouse.move(600, 500)
        for done_bytes in (200_000, 400_000):
            await asyncio.gather(jobs.advance(done_bytes), scroll(page, 8))
        await expect(page.get_by_text("400 KB of 1.0 MB").first).to_be_visible()
        assert await page.locator("a[data-job]").count() < 100, "the list is not virtual"
        assert max(await tasks.milliseconds()) < 200


async def test_the_list_does_not_move_while_its_reader_is_further_down(
    idle_window: Window, idle_ingot: Installation
) -> None:
    mark = uuid.uuid4().hex
    async with claimed_jobs(idle_ingot) as jobs:
        await jobs.start(40, mark)
        page = await idle_window.open(f"#/jobs?text={mark}")
        await expect(page.locator("a[data-job]").first).to_have_text(f"{mark} 39")
        await page.mouse.move(600, 500)
        await scroll(page, 1)
        seen = await first_line(page)

        await jobs.start(12, f"{mark} later")
        pill = page.get_by_role("button", name="12 new")
        await expect(pill).to_be_visible()
        assert await first_line(page) == seen

        await pill.click()
        assert await first_line(page) == f"{mark} later 11"
        await expect(pill).to_have_count(0)


async def test_a_paused_list_does_not_change_and_the_jobs_go_on(
    idle_window: Window, idle_ingot: Installation
) -> None:
    mark = uuid.uuid4().hex
    async with claimed_jobs(idle_ingot) as jobs:
        await jobs.start(2, mark)
        await jobs.advance(200_000)
        page = await idle_window.open(f"#/jobs?text={mark}")
        before, after = page.get_by_text("200 KB of"), page.get_by_text("400 KB of")
        await expect(before).to_have_count(2)

        await page.get_by_role("button", name="Pause").click()
        await jobs.advance(400_000)
        await jobs.start(1, f"{mark} later")
        await expect(page.get_by_role("button", name="1 new")).to_be_visible()
        await expect(before).to_have_count(2)
        await expect(page.locator("a[data-job]")).to_have_count(2)

        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("a[data-job]")).to_have_count(3)
        await expect(after).to_have_count(2)


async def test_keys_move_through_the_list_cancel_and_retry(
    idle_window: Window, idle_client: Client, origin: Origin
) -> None:
    mark = uuid.uuid4().hex
    jobs = [await idle_client.ingest_video(origin.url(f"/{mark}-{each}.mp4")) for each in "ab"]
    page = await idle_window.open(f"#/jobs?text={mark}")
    lines = page.locator("a[data-job]")
    await expect(lines).to_have_count(2)

    await page.keyboard.press("j")
    await page.keyboard.press("j")
    older = page.locator(f"a[data-job='{jobs[0].id}']")
    await expect(older).to_be_focused()
    await page.keyboard.press("c")
    cancelled = page.get_by_role("listitem").filter(has=older)
    await expect(cancelled).to_contain_text("Cancelled")
    await page.keyboard.press("r")
    await expect(lines).to_have_count(3)
    await expect(lines.first).to_have_text(f"{mark}-a.mp4")
    await page.keyboard.press("/")
    await expect(page.get_by_role("searchbox")).to_be_focused()
