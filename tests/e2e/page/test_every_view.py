"""What holds in every view: it can be used by everyone, and on a phone."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from ingot import Client
from tests.e2e.page.conftest import Window, open_window, page_of
from tests.e2e.page.test_jobs import missing, slow
from tests.installation import Installation
from tests.media import media
from tests.npm import install_packages
from tests.origin import Origin
from tests.origin import Page as Served

AXE = Path(__file__).parents[3] / "clients/node_modules/axe-core/axe.min.js"
NARROW = {"width": 360, "height": 700}
# Of the rules of axe, only these can differ between light and dark.
COLOURS = "{resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']}"
ALL = "{resultTypes: ['violations']}"


async def axe(page: Page, options: str) -> list[str]:
    """What axe finds in the page as it is now."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate(f"axe.run({options})")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found["violations"]]


async def places(client: Client, origin: Origin, clip: bytes) -> list[str]:
    """Every view, in its states."""
    film = origin.serve(f"/{uuid.uuid4().hex}.mp4", Served(media("film.mp4").read_bytes()))
    sound = origin.serve(f"/{uuid.uuid4().hex}.flac", Served(media("six.flac").read_bytes()))
    stored = [await (await client.ingest_video(url)) for url in (film, sound)]
    failed = await client.ingest_video(missing(origin), webhook_url=missing(origin))
    running = await client.ingest_video(slow(origin, clip))
    await client.follow(missing(origin))
    return [
        "#/",
        "#/jobs",
        "#/jobs?text=nothing-is-called-so",
        f"#/jobs/{failed.id}",
        f"#/jobs/{running.id}",
        "#/jobs/none",
        "#/library",
        "#/library?q=nothing-is-called-so",
        *(f"#/library/{each.id}" for each in stored),
        "#/library/none",
        "#/following",
        "#/following?id=none",
        "#/uploads",
        "#/system",
        f"#/webhooks?job={failed.id}",
        "#/webhooks?job=none",
        "#/nowhere",
    ]


async def upload_what_fails(page: Page) -> None:
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Choose files").click()
    file = FilePayload(name="notes.txt", mimeType="text/plain", buffer=b"Not media. " * 99)
    await (await chooser.value).set_files(file)
    await expect(page.get_by_role("listitem").filter(has_text="notes.txt")).to_contain_text(
        "Failed"
    )


@pytest.mark.parametrize(
    ("theme", "options"), [("light", ALL), ("dark", COLOURS)], ids=["light", "dark"]
)
async def test_axe_finds_nothing_in_any_view_and_state(
    browser: Browser,
    ingot: Installation,
    client: Client,
    origin: Origin,
    clip: bytes,
    theme: str,
    options: str,
) -> None:
    install_packages()
    window = await open_window(browser, page_of(ingot), color_scheme=theme, reduced_motion="reduce")
    found: list[str] = []
    for place in await places(client, origin, clip):
        page = await window.open(place)
        await expect(page.locator(".skeleton")).to_have_count(0)
        if place == "#/uploads":
            await upload_what_fails(page)
        found += [f"{place} {each}" for each in await axe(page, options)]
    await page.keyboard.press("Control+k")
    await expect(page.get_by_role("dialog")).to_be_visible()
    found += [f"commands {each}" for each in await axe(page, options)]
    assert found == []
    window.assert_well_behaved(ingot.s3_settings().s3_endpoint)


async def test_no_view_is_wider_than_a_phone(
    browser: Browser, ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    window = await open_window(browser, page_of(ingot), viewport=NARROW)
    widths: dict[str, int] = {}
    for place in await places(client, origin, clip):
        page = await window.open(place)
        await expect(page.locator(".skeleton")).to_have_count(0)
        widths[place] = await page.evaluate("document.documentElement.scrollWidth")
        await expect(page.get_by_role("navigation")).to_be_in_viewport(ratio=1)
    assert set(widths.values()) == {NARROW["width"]}, widths


async def test_the_page_can_be_installed(window: Window, ingot: Installation) -> None:
    """Chromium says what is wrong with the manifest and its icons."""
    page = await window.open()
    session = await page.context.new_cdp_session(page)
    manifest = await session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    errors = await session.send("Page.getInstallabilityErrors")
    assert [each["errorId"] for each in errors["installabilityErrors"]] in ([], ["in-incognito"])
