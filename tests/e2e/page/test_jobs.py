"""The view "Jobs": live, safe, and usable by everyone."""

from __future__ import annotations

import uuid

import pytest
from playwright.async_api import expect

from ingot import Client
from ingot.v1.recipe_pb2 import Recipe
from tests.e2e.page.conftest import Window
from tests.media import media
from tests.origin import Origin
from tests.origin import Page as Served


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
    item = await (await client.ingest_video(url))
    stored = (await client.update_media(item.id, title=title)).title
    job = await client.convert(item.id, Recipe(mp3=Recipe.Mp3()))
    await job
    shown = {f"#/jobs/{job.id}": job.latest.display_name, f"#/library/{item.id}": stored}
    for place, text in shown.items():
        page = await window.open(place)
        heading = page.get_by_role("heading", level=1)
        await expect(heading).to_have_js_property("textContent", text)
        assert await page.locator("main img, main script").count() == 0
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not await page.evaluate(wide)


async def test_a_list_of_fifty_is_a_tree_with_sums(
    window: Window, client: Client, origin: Origin
) -> None:
    tiny = media("tiny.mp4").read_bytes()
    mark = uuid.uuid4().hex
    urls = [origin.serve(f"/{mark}-{number}.mp4", Served(tiny)) for number in range(48)]
    urls += [missing(origin) for _ in range(2)]
    items = "".join(f"<item><enclosure url='{url}' type='video/mp4'/></item>" for url in urls)
    feed = f"<rss version='2.0'><channel><title>Fifty {mark}</title>{items}</channel></rss>"
    served = Served(feed.encode(), content_type="application/rss+xml")
    page = await window.open()
    field = page.get_by_role("textbox", name="Links to video or audio")
    await field.fill(origin.serve(f"/{mark}.xml", served))
    await page.get_by_text("Video", exact=True).click()
    await page.get_by_text("More options").click()
    await page.get_by_label("The whole list").check()
    await page.get_by_role("button", name="Get the list (50)").click()
    await page.locator("li[data-job]").get_by_role("link").click()

    parts = page.get_by_role("region", name="Parts")
    await expect(parts).to_contain_text("50 of 50 parts ended")
    await expect(parts).to_contain_text("48 Done")
    await expect(parts).to_contain_text("2 Failed")
    await expect(parts.get_by_role("listitem")).to_have_count(50)
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Fifty {mark}")


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
