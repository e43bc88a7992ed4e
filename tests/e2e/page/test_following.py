"""What is followed, on the web page: from the link of a feed to the jobs of its entries."""

from __future__ import annotations

import re
import uuid

from playwright.async_api import expect

from tests.e2e.page.conftest import Window
from tests.e2e.page.test_every_view import ALL, axe
from tests.media import media
from tests.npm import install_packages
from tests.origin import Origin, Page

FEED = "<?xml version='1.0'?><rss version='2.0'><channel><title>{}</title>{}</channel></rss>"
ITEM = "<item><title>Episode {}</title><enclosure url='{}' type='video/mp4'/></item>"


def serve_feed(origin: Origin, title: str, episodes: int) -> str:
    """The URL of a feed with the latest episode first."""
    clip = Page(media("tiny.mp4").read_bytes())
    items = [
        ITEM.format(number, origin.serve(f"/{title}-{number}.mp4", clip))
        for number in range(episodes)
    ]
    feed = FEED.format(title, "".join(items[::-1])).encode()
    return origin.serve(f"/{title}.xml", Page(feed, content_type="application/rss+xml"))


async def test_a_feed_is_followed_to_its_jobs_until_it_is_unfollowed(
    window: Window, origin: Origin
) -> None:
    install_packages()
    title = f"bells-{uuid.uuid4().hex}"
    url = serve_feed(origin, title, 2)
    page = await window.open("#/following")
    await page.get_by_label("Link of a channel").fill(url)
    await page.get_by_label("Only what comes from now on").check()
    await page.get_by_role("button", name="Follow", exact=True).click()
    subscriptions = page.get_by_role("list", name="Subscriptions").get_by_role("listitem")
    row = subscriptions.filter(has_text=url)
    await expect(row.get_by_role("link", name=title, exact=True)).to_be_visible()
    await expect(row).to_contain_text("Active")
    await expect(row).to_contain_text(re.compile(r"0 jobs\s*·\s*2 seen"))

    serve_feed(origin, title, 3)
    await row.get_by_role("button", name="Check now").click()
    await row.get_by_role("link", name="1 job").click()
    await page.locator("a[data-job]").click()
    await page.get_by_role("link", name=f"New entry of {title}").click()
    await expect(page).to_have_url(re.compile(r"#/following\?id=\w+$"))

    origin.pages.pop(f"/{title}.xml")
    await row.get_by_role("button", name="Check now").click()
    await expect(row).to_contain_text("Failing")
    await expect(row).to_contain_text("MEDIA_DOES_NOT_EXIST")
    await row.get_by_role("button", name="Pause").click()
    await expect(row).to_contain_text("Paused")
    await expect(row.get_by_role("button", name="Check now")).to_be_disabled()

    await row.get_by_role("button", name="Podcast feed").click()
    address = await page.get_by_role("dialog").locator("code").inner_text()
    assert (await page.request.get(address)).status == 200
    assert await axe(page, ALL) == []
    await page.get_by_role("button", name="Done").click()
    assert await axe(page, ALL) == []
    await page.get_by_role("button", name=f"Revoke {title}").click()
    await page.get_by_role("button", name="Revoke for good").click()
    await expect(page.get_by_role("region", name="Podcast feeds")).to_have_count(0)
    assert (await page.request.get(address)).status == 404

    await row.get_by_role("button", name="Unfollow").click()
    await page.get_by_role("button", name="Stop following").click()
    await expect(page.get_by_text(f"No longer followed: {title}")).to_be_visible()
    await expect(row).to_have_count(0)
