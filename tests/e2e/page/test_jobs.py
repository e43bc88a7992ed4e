"""The view "Jobs": live, safe, and usable by everyone."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, CDPSession, Page, expect

from ingot import Client
from ingot.v1.recipe_pb2 import Recipe
from tests.e2e.page.conftest import Window, open_window
from tests.installation import Installation, installation
from tests.npm import install_packages
from tests.origin import Origin
from tests.origin import Page as Served

CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel"]
AXE = Path(__file__).parents[3] / "clients/node_modules/axe-core/axe.min.js"


def slow(origin: Origin, clip: bytes) -> str:
    """The URL of a file that takes a minute."""
    return origin.serve(f"/{uuid.uuid4().hex}.mp4", Served(clip + bytes(4_000_000), rate=60_000))


def missing(origin: Origin) -> str:
    return origin.url(f"/{uuid.uuid4().hex}.mp4")


async def test_a_running_job_is_cancelled_and_retried(
    window: Window, client: Client, origin: Origin, clip: bytes
) -> None:
    job = await client.ingest_video(slow(origin, clip))
    page = await window.open(f"#/jobs/{job.id}")
    await expect(page.get_by_role("progressbar")).to_be_visible()

    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    await page.get_by_role("button", name="Retry").click()
    await page.wait_for_url(lambda url: job.id not in url)
    await expect(page.get_by_role("progressbar")).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()


async def test_a_failed_job_says_why_and_what_to_do(
    window: Window, client: Client, origin: Origin
) -> None:
    job = await client.ingest_video(missing(origin))
    page = await window.open(f"#/jobs/{job.id}")

    failure = page.get_by_role("region", name="Failed")
    await expect(failure).to_contain_text("MEDIA_DOES_NOT_EXIST")
    await expect(failure).to_contain_text("Check the link")
    await expect(failure.get_by_role("button", name="Retry")).to_be_visible()


async def test_all_matching_jobs_are_cancelled_at_once(
    window: Window, client: Client, origin: Origin, clip: bytes
) -> None:
    mark = uuid.uuid4().hex
    for number in range(3):
        url = origin.serve(f"/{mark}-{number}.mp4", Served(clip + bytes(4_000_000), rate=60_000))
        await client.ingest_video(url)
    page = await window.open(f"#/jobs?text={mark}")
    await expect(page.locator("a[data-job]")).to_have_count(3)

    await page.get_by_role("button", name="Cancel all 3").click()
    await expect(page.locator("ol").get_by_text("Cancelled", exact=True)).to_have_count(3)
    await expect(page.get_by_role("button", name="Retry all 3")).to_be_visible()


@pytest.mark.parametrize(
    "title",
    [
        "<img src=x onerror=alert(1)><script>alert(2)</script>",
        "\u202egnp.exe \u2066right to left",
        "x" * 1000,
        "\x1b[31mred\x1b]0;title\x07",
    ],
    ids=["markup", "right-to-left", "as long as it may be", "terminal"],
)
async def test_a_hostile_title_stays_text(
    window: Window, client: Client, origin: Origin, clip: bytes, title: str
) -> None:
    url = origin.serve(f"/{uuid.uuid4().hex}.mp4", Served(clip))
    media = await (await client.ingest_video(url))
    await client.update_media(media.id, title=title)
    job = await client.convert(media.id, Recipe(mp3=Recipe.Mp3()))
    await job
    page = await window.open(f"#/jobs/{job.id}")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await page.locator("main img, main script").count() == 0
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not await page.evaluate(wide)


async def test_filters_are_in_the_address_and_back_returns_to_the_last(
    window: Window, client: Client, origin: Origin
) -> None:
    job = await client.ingest_video(missing(origin))
    page = await window.open("#/jobs")
    states = page.get_by_role("group", name="Filter by state")
    await states.get_by_role("button", name="Failed").click()
    await expect(page).to_have_url(f"{window.address}#/jobs?state=failed")
    await page.locator(f"a[data-job='{job.id}']").click()
    await page.go_back()
    await expect(states.get_by_role("button", name="Failed")).to_have_attribute(
        "aria-pressed", "true"
    )
    await page.go_back()
    await expect(states.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "true")


async def test_the_keyboard_alone_finds_and_cancels_a_job(
    window: Window, client: Client, origin: Origin, clip: bytes
) -> None:
    job = await client.ingest_video(slow(origin, clip))
    page = await window.open()
    await page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Commands")
    await expect(palette).to_be_visible()
    await page.keyboard.type("Jobs")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{window.address}#/jobs")
    await expect(page.locator(f"a[data-job='{job.id}']")).to_be_visible()

    await page.keyboard.press("j")
    await expect(page.locator(f"a[data-job='{job.id}']")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{window.address}#/jobs/{job.id}")
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent.trim()") == "Cancel":
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()


async def axe(page: Page) -> list[str]:
    """What axe finds in the page as it is now."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run()")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found["violations"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing(
    browser: Browser, ingot: Installation, client: Client, origin: Origin, clip: bytes, theme: str
) -> None:
    install_packages()
    failed = await client.ingest_video(missing(origin))
    running = await client.ingest_video(slow(origin, clip))
    address = ingot.wait_for(r"^page\s+(\S+)")[1]
    window = await open_window(browser, address, color_scheme=theme, reduced_motion="reduce")
    found: list[str] = []
    for place in (
        "#/",
        "#/jobs",
        "#/jobs?text=nothing-is-called-so",
        f"#/jobs/{failed.id}",
        f"#/jobs/{running.id}",
        "#/jobs/none",
        "#/nowhere",
    ):
        page = await window.open(place)
        await expect(page.locator(".skeleton")).to_have_count(0)
        found += [f"{place} {each}" for each in await axe(page)]
    await page.keyboard.press("Control+k")
    await expect(page.get_by_role("dialog")).to_be_visible()
    found += [f"commands {each}" for each in await axe(page)]
    await running.cancel()
    assert found == []


async def test_the_page_goes_on_after_the_server_was_killed_and_started_again(
    browser: Browser, tmp_path: Path, origin: Origin, clip: bytes, unused_tcp_port: int
) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    with installation(tmp_path / "data", workers="1", http_address=address) as running:
        window = await open_window(browser, f"http://{address}/")
        page = await window.open("#/jobs")
        await expect(page.locator(".badge.live")).to_be_visible()
        async with Client(running.grpc_address) as client:
            first = await client.ingest_video(missing(origin))
            await expect(page.locator(f"a[data-job='{first.id}']")).to_be_visible()
        await page.evaluate("window.sameDocument = true")
    await expect(page.locator(".badge")).to_contain_text("Stale for")
    with installation(tmp_path / "data", workers="1", http_address=address) as running:
        await expect(page.locator(".badge.live")).to_be_visible()
        async with Client(running.grpc_address) as client:
            second = await client.ingest_video(missing(origin))
            await expect(page.locator(f"a[data-job='{second.id}']")).to_be_visible()
    assert await page.evaluate("window.sameDocument"), "the page was loaded again"


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
    await session.send(
        "Tracing.start",
        {"traceConfig": {"includedCategories": CATEGORIES}},
    )
    return tasks


@pytest.mark.timeout(300)  # much work for a busy machine
async def test_a_thousand_live_jobs_do_not_block_the_page(
    browser: Browser, tmp_path: Path, origin: Origin
) -> None:
    with installation(tmp_path / "data", workers="1") as running:
        window = await open_window(browser, running.wait_for(r"^page\s+(\S+)")[1])
        page = await window.open("#/jobs")
        tasks = await trace_tasks(page)
        async with Client(running.grpc_address) as client:
            for _ in range(20):
                await asyncio.gather(*(client.ingest_video(missing(origin)) for _ in range(50)))
        await expect(page.get_by_role("button", name="All")).to_contain_text("1,000")
        await page.mouse.move(600, 500)
        for _ in range(20):
            await page.mouse.wheel(0, 400)
            await page.wait_for_timeout(50)
        assert max(await tasks.milliseconds()) < 200
