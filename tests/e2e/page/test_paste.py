"""Paste and go: from a link to a file on this machine."""

from __future__ import annotations

import uuid
from pathlib import Path

from playwright.async_api import expect

from tests.conversions import assert_mp3_plays
from tests.e2e.page.conftest import Window
from tests.origin import Origin, Page


async def test_paste_click_done_saves_an_mp3_that_plays(
    window: Window, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    url = origin.serve(f"/{uuid.uuid4().hex}.mp4", Page(clip))
    page = await window.open()
    field = page.get_by_role("textbox", name="Links to video or audio")
    await expect(field).to_be_focused()

    await field.fill(url)
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Get MP3").click()

    song = tmp_path / "song.mp3"
    await (await download.value).save_as(song)
    assert_mp3_plays(song)


async def test_the_preview_says_what_is_behind_a_link_before_anything_is_stored(
    window: Window, origin: Origin, clip: bytes
) -> None:
    name = uuid.uuid4().hex
    url = origin.serve(f"/{name}.mp4", Page(clip))
    page = await window.open()

    await page.get_by_role("textbox", name="Links to video or audio").fill(f"see {url}, it is good")

    preview = page.locator(".preview")
    await expect(preview).to_contain_text(name)
    await expect(preview).to_contain_text("Media")


async def test_a_link_in_the_address_fills_the_field_once(
    window: Window, origin: Origin, clip: bytes
) -> None:
    url = origin.serve(f"/{uuid.uuid4().hex}.mp4?a=1&b=2", Page(clip))
    await window.page.goto(f"{window.address}?url={url.replace('&', '%26')}")

    field = window.page.get_by_role("textbox", name="Links to video or audio")
    await expect(field).to_have_value(url)
    await window.page.reload()
    await expect(field).to_have_value("")


async def test_what_is_no_link_is_refused_in_words(window: Window) -> None:
    page = await window.open()
    await page.get_by_role("textbox", name="Links to video or audio").fill("ftp://host/clip")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("begins with http:// or https://")


async def test_progress_arrives_while_the_job_runs(
    window: Window, origin: Origin, clip: bytes
) -> None:
    content = clip + bytes(2_000_000)
    url = origin.serve(f"/{uuid.uuid4().hex}.mp4", Page(content, rate=400_000))
    page = await window.open()
    await page.get_by_role("textbox", name="Links to video or audio").fill(url)
    await page.get_by_text("Video", exact=True).click()
    await page.get_by_role("button", name="Get video").click()

    bar = page.locator("li[data-job]").get_by_role("progressbar")
    seen: list[int] = []
    while len(seen) < 3:
        now = int(await bar.get_attribute("aria-valuenow") or 0)
        if now > (seen[-1] if seen else 0):
            seen.append(now)
        await page.wait_for_timeout(50)
    assert seen == sorted(seen)
    assert seen[-1] < 100
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("li[data-job]")).to_contain_text("Cancelled")
