"""The page goes on after it lost its server, without a reload."""

from __future__ import annotations

import os
import re
import signal
import uuid
from pathlib import Path

from playwright.async_api import Browser, Page, Request, expect

from ingot import Client
from tests.e2e.page.conftest import Window, open_window
from tests.installation import Installation
from tests.nginx import nginx
from tests.origin import Origin


async def open_jobs(window: Window) -> Page:
    """Open the jobs, and mark the document: another load would not have the mark."""
    page = await window.open("#/jobs")
    await expect(page.locator(".badge.live")).to_be_visible()
    await page.evaluate("window.sameDocument = true")
    return page


async def assert_live(page: Page, client: Client, origin: Origin) -> None:
    """A new job appears, in the document that was opened."""
    job = await client.ingest_video(origin.url(f"/{uuid.uuid4().hex}.mp4"))
    await expect(page.locator(f"a[data-job='{job.id}']")).to_be_visible()
    await expect(page.locator(".badge.live")).to_be_visible()
    assert await page.evaluate("window.sameDocument"), "the page was loaded again"


def kill(ingot: Installation, role: str) -> None:
    """Kill the one process of a role; `up` starts it again."""
    [process] = ingot.children(role)
    os.kill(process, signal.SIGKILL)


async def test_the_page_goes_on_after_the_server_was_killed_and_started_again(
    idle_window: Window, idle_ingot: Installation, idle_client: Client, origin: Origin
) -> None:
    page = await open_jobs(idle_window)
    await assert_live(page, idle_client, origin)
    kill(idle_ingot, "serve")
    await expect(page.locator(".badge")).to_contain_text("Stale for")
    await expect(page.locator(".badge.live")).to_be_visible()
    await assert_live(page, idle_client, origin)


async def test_the_page_goes_on_after_redis_was_gone_and_came_back(
    idle_window: Window, idle_ingot: Installation, idle_client: Client, origin: Origin
) -> None:
    page = await open_jobs(idle_window)
    printed = len(idle_ingot.output)
    kill(idle_ingot, "valkey-server")
    idle_ingot.wait_for("started again", after=printed)
    await assert_live(page, idle_client, origin)


async def test_the_page_goes_on_after_a_proxy_ended_its_stream(
    browser: Browser, idle_ingot: Installation, idle_client: Client, origin: Origin, tmp_path: Path
) -> None:
    http_address = idle_ingot.wait_for(r"^HTTP\s+(\S+)")[1]
    limits = {"limits": "proxy_read_timeout 1s;"}
    addresses = {"grpc_address": idle_ingot.grpc_address, "http_address": http_address}
    async with nginx(tmp_path, **addresses, **limits) as proxy:
        window = await open_window(browser, f"http://{proxy.http}/")
        page = await open_jobs(window)

        def watches(request: Request) -> bool:
            return re.search("WatchJobs$", request.url) is not None

        for _ in range(2):
            async with page.expect_request(watches):
                pass
        await assert_live(page, idle_client, origin)
        window.assert_well_behaved()
        await page.close()
