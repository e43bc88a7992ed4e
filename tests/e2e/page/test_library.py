"""The library of the web page, in a real browser: found, played, labelled, converted, deleted."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Response, expect

from ingot import Client, MediaNotFound
from ingot.v1.job_pb2 import IngestOptions
from tests.e2e.page.conftest import Window
from tests.media import media
from tests.origin import Origin, Page

PLAYS_AFTER = """(seconds) => new Promise((resolve) => {
    const video = document.querySelector("video");
    const check = () => {
        if (video.currentTime > seconds && !video.seeking && !video.paused) resolve();
    };
    video.addEventListener("timeupdate", check);
    check();
})"""

CUES_OF = """(track) => new Promise((resolve) => {
    track.addEventListener("load", () => {
        resolve([...track.track.cues].map((cue) => cue.text));
    });
    track.track.mode = "showing";
})"""


async def stored(client: Client, origin: Origin, name: str, path: str) -> str:
    """Return the id of a stored media item; every `path` is another one."""
    url = origin.serve(path, Page(media(name).read_bytes()))
    job = await client.ingest_video(url, labels={"team": "archive"})
    return (await job).id


async def test_a_film_is_found_played_and_sought(
    window: Window, client: Client, origin: Origin
) -> None:
    media_id = await stored(client, origin, "film.mp4", "/two-parts.mp4")
    ranges: list[str] = []

    def note(response: Response) -> None:
        if response.status == 206:
            ranges.append(response.url)

    page = await window.open()
    page.on("response", note)
    await page.get_by_role("link", name="Library").click()
    await page.get_by_role("searchbox").fill("two PARTS")
    await page.wait_for_url("**/#/library?q=two+PARTS")
    found = page.get_by_role("listitem").filter(has_text="Two Parts")
    await found.locator(f"a[href$='{media_id}']").click()

    await expect(page.locator("video")).to_be_visible()
    await page.get_by_role("button", name="Second").click()
    await page.evaluate(PLAYS_AFTER, 0.9)
    await page.evaluate("document.querySelector('video').currentTime = 25")
    await page.evaluate(PLAYS_AFTER, 25)
    assert ranges
    await page.go_back()
    await expect(page.get_by_role("searchbox")).to_have_value("two PARTS")


async def test_stored_subtitles_are_tracks_of_the_player(
    window: Window, client: Client, origin: Origin, clip: bytes
) -> None:
    origin.serve("/said.mp4", Page(clip))
    origin.serve("/said.vtt", Page(b"WEBVTT\n\n00:00.000 --> 00:02.000\nDing.\n"))
    tracks = [{"kind": "captions", "label": "Deutsch", "file": "/said.vtt"}]
    setup = json.dumps({"file": "/said.mp4", "tracks": tracks})
    html = f"<html><title>A Bell</title><script>jwplayer('p').setup({setup});</script></html>"
    url = origin.serve("/bell", Page(html.encode(), content_type="text/html"))
    options = IngestOptions(subtitle_languages=["de"])
    stored = await (await client.ingest_video(url, options=options))

    page = await window.open(f"#/library/{stored.id}")
    track = page.locator("video track")
    await expect(track).to_have_attribute("srclang", "de")
    assert await track.evaluate(CUES_OF) == ["Ding."]


async def test_labels_are_edited_and_only_valid_ones_are_sent(
    window: Window, client: Client, origin: Origin
) -> None:
    media_id = await stored(client, origin, "sound.m4a", "/labelled.m4a")
    page = await window.open(f"#/library/{media_id}")
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_role("button", name="Add a label").click()
    await page.keyboard.type("Speaker")
    await expect(page.get_by_role("button", name="Save")).to_be_disabled()
    await page.get_by_role("textbox", name="Key").last.fill("speaker")
    await page.get_by_role("textbox", name="Value").last.fill("<b>Ada</b>")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("link", name="speaker <b>Ada</b>")).to_be_visible()
    found = await client.media(media_id)
    assert dict(found.labels) == {"team": "archive", "speaker": "<b>Ada</b>"}


async def test_a_media_item_is_pinned_and_unpinned(
    window: Window, client: Client, origin: Origin
) -> None:
    media_id = await stored(client, origin, "sound.m4a", "/pinned.m4a")
    page = await window.open(f"#/library/{media_id}")
    await page.get_by_role("button", name="Pin", exact=True).click()
    await expect(page.get_by_text("Pinned: it stays until it is deleted")).to_be_visible()
    assert (await client.media(media_id)).pinned

    await page.get_by_role("link", name="Library", exact=True).first.click()
    row = page.get_by_role("listitem").filter(has=page.locator(f"a[href$='{media_id}']"))
    await expect(row).to_contain_text("Pinned:")
    await row.get_by_role("link").click()
    await page.get_by_role("button", name="Unpin").click()
    await expect(page.get_by_role("button", name="Pin", exact=True)).to_be_visible()
    assert not (await client.media(media_id)).pinned


async def test_a_waveform_is_drawn_on_demand_and_seeks(
    window: Window, client: Client, origin: Origin
) -> None:
    media_id = await stored(client, origin, "constant.mp3", "/wave.mp3")
    page = await window.open(f"#/library/{media_id}")
    await page.get_by_role("button", name="Draw the waveform").click()
    slider = page.get_by_role("slider", name="Position in the sound")
    await slider.wait_for()
    await expect(slider).to_have_attribute("aria-valuemax", "2")
    await slider.press("End")
    await expect(slider).to_have_attribute("aria-valuenow", "2")
    await expect(page.get_by_role("link", name="Waveform data")).to_be_visible()


async def test_only_a_confirmed_deletion_deletes(
    window: Window, client: Client, origin: Origin
) -> None:
    media_id = await stored(client, origin, "sound.flac", "/unwanted.flac")
    page = await window.open("#/library")
    row = page.locator(f"a[href$='{media_id}']")
    await row.click()
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    await page.keyboard.press("Enter")
    await client.media(media_id)

    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Delete for good").click()
    await page.wait_for_url("**/#/library")
    await expect(row).to_have_count(0)
    with pytest.raises(MediaNotFound):
        await client.media(media_id)


async def test_a_link_to_what_is_not_stored_says_so(window: Window) -> None:
    page = await window.open(f"#/library/{'a' * 52}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("This media item is not stored")
