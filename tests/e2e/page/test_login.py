"""A server with tokens, on its web page: who reads the page has to log in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from ingot import Client
from ingot_server.access_tokens import entry, new_token
from tests.e2e.page.conftest import open_window, page_of
from tests.installation import Installation, installation

TOKEN, NEWS, ARCHIVE = (new_token() for _ in range(3))


@pytest.fixture(scope="module")
def guarded_ingot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    tokens = entry(TOKEN, "reader", ["read", "admin"], None)
    settings = {"workers": "0", "convert_workers": "0", "tokens": tokens}
    with installation(tmp_path_factory.mktemp("guarded"), **settings) as running:
        yield running


async def test_the_page_asks_for_a_token_and_does_not_keep_it_readable(
    browser: Browser, guarded_ingot: Installation
) -> None:
    window = await open_window(browser, page_of(guarded_ingot))
    page = window.page
    await page.goto(f"{window.address}#/jobs")
    await page.get_by_label("Token").fill(f"{TOKEN}x")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not one that this server knows")

    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_title("Logged in as reader")).to_be_visible()
    await expect(page.get_by_text("Live", exact=True).last).to_be_visible()
    readable = await page.evaluate(
        "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, location.href])"
    )
    assert TOKEN not in readable
    [cookie] = await page.context.cookies()
    assert TOKEN not in cookie["value"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")

    await page.reload()
    await expect(page.get_by_title("Logged in as reader")).to_be_visible()
    views = page.get_by_role("navigation", name="Views")
    await expect(views.get_by_role("link", name="Webhooks")).to_be_visible()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Token")).to_be_visible()
    assert await page.context.cookies() == []
    window.assert_well_behaved()


@pytest.fixture(scope="module")
def private_ingot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    callers = ((NEWS, "news"), (ARCHIVE, "archive"))
    tokens = "".join(entry(token, name, ["read", "ingest"], None) for token, name in callers)
    settings = {"workers": "0", "convert_workers": "0", "tokens": tokens}
    with installation(
        tmp_path_factory.mktemp("private"), cache_sharing="private", **settings
    ) as running:
        yield running


async def test_the_page_shows_and_counts_the_jobs_of_its_caller_alone(
    browser: Browser, private_ingot: Installation
) -> None:
    for token, name in ((NEWS, "bells"), (ARCHIVE, "choir"), (ARCHIVE, "organ")):
        async with Client(private_ingot.grpc_address, token=token) as client:
            await client.ingest_video(f"http://media.example/{name}.mp4")
    window = await open_window(browser, page_of(private_ingot))
    page = window.page
    await page.goto(f"{window.address}#/jobs")
    await page.get_by_label("Token").fill(ARCHIVE)
    await page.get_by_role("button", name="Log in").click()

    for name in ("choir", "organ"):
        await expect(page.get_by_text(f"{name}.mp4").first).to_be_visible()
    states = page.get_by_role("group", name="Filter by state")
    await expect(states.get_by_role("button", name="All")).to_contain_text("2")
    await expect(page.get_by_text("bells.mp4")).to_have_count(0)
    views = page.get_by_role("navigation", name="Views")
    await expect(views.get_by_role("link", name="System")).to_be_visible()
    await expect(views.get_by_role("link", name="Webhooks")).to_have_count(0)
    window.assert_well_behaved()
