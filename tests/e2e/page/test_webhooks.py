"""The deliveries of webhooks on the web page."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import expect

from ingot import Client
from tests.e2e.page.conftest import Window
from tests.e2e.page.test_jobs import missing
from tests.origin import Origin
from tests.waiting import JOB_SECONDS
from tests.webhook_receiver import receiver


async def test_a_delivery_that_failed_says_why_and_is_sent_again(
    window: Window, client: Client, origin: Origin
) -> None:
    async with receiver() as hook, asyncio.timeout(JOB_SECONDS):
        hook.answers = [(410, {})]
        job = await client.ingest_video(missing(origin), webhook_url=hook.url("/hook?token=hidden"))
        await hook.got(1)
        page = await window.open(f"#/jobs/{job.id}")
        await page.get_by_role("main").get_by_role("link", name="Webhooks").click()
        delivery = page.get_by_role("list", name="Deliveries").get_by_role("listitem")
        await expect(delivery).to_have_count(1)
        await expect(delivery).to_contain_text("Failed")
        await expect(delivery).to_contain_text("1 attempt")
        await expect(delivery).to_contain_text("410")
        await expect(delivery).to_contain_text(f"{hook.url('/hook')}")
        await expect(delivery).not_to_contain_text("hidden")

        await page.get_by_role("button", name=re.compile("^Send again: ")).click()
        await expect(page.get_by_text("It is sent again")).to_be_visible()
        sent = await hook.got(2)
        assert sent[0].id == sent[1].id
        await expect(delivery).to_contain_text("Delivered")

        await page.get_by_label("State").select_option("Failed")
        await expect(page.get_by_text("No delivery matches")).to_be_visible()
        await page.get_by_role("button", name=f"Job {job.id}").click()
        await expect(page).to_have_url(re.compile(r"#/webhooks\?state=failed$"))
