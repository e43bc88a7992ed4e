"""The TypeScript client against a running server: its own tests, and the examples of its README."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page as BrowserPage
from playwright.async_api import Route, async_playwright

from ingot import Client
from tests.conversions import assert_mp3_plays
from tests.installation import Installation
from tests.media import media
from tests.npm import build_typescript_client, run_example, run_node
from tests.origin import Origin, Page
from tests.programs import find_program


def http_address(ingot: Installation) -> str:
    return "http://" + ingot.wait_for(r"^HTTP\s+(\S+)")[1]


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build the client, as the examples import it."""
    build_typescript_client()


async def example(name: str, *arguments: str, ingot: Installation) -> str:
    return await run_example(name, *arguments, INGOT_HTTP=http_address(ingot))


async def test_the_typescript_client_keeps_its_promises_against_a_real_server(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    origin.serve("/clip.mp4", Page(clip))
    origin.serve("/slow.mp4", Page(clip, rate=len(clip) / 2))
    origin.serve("/stuck.mp4", Page(clip, gate=asyncio.Event()))

    output = await run_node(
        *("npm", "run", "test:server"),
        INGOT_TEST_SERVER=http_address(ingot),
        INGOT_TEST_ORIGIN=origin.base,
        INGOT_TEST_CLIP=str(media("plain.mp4")),
    )

    assert "skipped" not in output


async def test_the_mp3_example_shows_progress_and_saves_an_mp3(
    ingot: Installation, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    url = origin.serve("/ts-example.mp4", Page(clip, rate=len(clip)))
    song = tmp_path / "song.mp3"

    output = await example("mp3.js", url, str(song), ingot=ingot)

    percents = [int(line.split()[-2]) for line in output.splitlines()]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert any(0 < percent < 100 for percent in percents)
    assert_mp3_plays(song)


async def test_the_error_example_decides_by_the_reason(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    stored = origin.serve("/ts-stored.mp4", Page(clip))
    gone = origin.url("/ts-gone.mp4")

    assert "stored" in await example("errors.js", stored, ingot=ingot)
    assert "no media at this link" in await example("errors.js", gone, ingot=ingot)
    assert "wrong input { url:" in await example("errors.js", "file:///etc/passwd", ingot=ingot)
    assert "ADDRESS_FORBIDDEN" in await example("errors.js", "http://10.0.0.1/", ingot=ingot)


async def test_the_watch_example_shows_jobs_until_they_have_ended(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    urls = [origin.serve(f"/ts-watch-{number}.mp4", Page(clip)) for number in range(2)]
    watching = asyncio.create_task(example("watch.js", "ts", "2", ingot=ingot))
    for url in urls:
        await client.ingest_video(url, labels={"batch": "ts"})

    assert (await watching).count("SUCCEEDED") == len(urls)


async def test_the_upload_example_stores_a_file(ingot: Installation) -> None:
    path = media("faststart.mp4")

    output = await example("upload.js", str(path), ingot=ingot)

    assert f"sending {path.stat().st_size} of {path.stat().st_size}" in output
    assert hashlib.sha256(path.read_bytes()).hexdigest() in output.splitlines()[-1]


RUN_IN_PAGE = """async ([name, words, files]) => {
    globalThis.process = { argv: ["node", name, ...words], env: { INGOT_HTTP: location.origin } };
    globalThis.files = {};
    for (const [path, content] of Object.entries(files)) {
        const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
        globalThis.files[path] = new Blob([bytes]);
    }
    // Each run is another module: an example runs when it is loaded.
    await import(`/examples/${name}?${crypto.randomUUID()}`);
}"""
READ_IN_PAGE = """async (path) => {
    const bytes = new Uint8Array(await globalThis.files[path].arrayBuffer());
    return btoa(Array.from(bytes, (each) => String.fromCharCode(each)).join(""));
}"""


class BrowserExamples:
    """The examples in a page of the server's origin, and what they log."""

    def __init__(self, page: BrowserPage) -> None:
        self._page = page
        self._lines: list[str] = []
        page.on("console", lambda message: self._lines.append(message.text))

    async def run(self, name: str, *arguments: str, **files: bytes) -> list[str]:
        """Run an example; return the lines it logs. `files` are those that it can read."""
        self._lines.clear()
        encoded = {path: base64.b64encode(content).decode() for path, content in files.items()}
        await self._page.evaluate(RUN_IN_PAGE, [name, arguments, encoded])
        return list(self._lines)

    async def read(self, path: str) -> bytes:
        """Return what an example wrote."""
        return base64.b64decode(await self._page.evaluate(READ_IN_PAGE, path))


@pytest.fixture
async def in_chromium(ingot: Installation, tmp_path: Path) -> AsyncIterator[BrowserExamples]:
    bundles = tmp_path / "bundles"
    await run_node("node", "server-tests/bundle_examples.js", str(bundles))

    async def serve(route: Route) -> None:
        await route.fulfill(path=bundles / urlsplit(route.request.url).path[len("/examples/") :])

    executable = find_program("chromium")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.route("**/examples/**", serve)
        # Any document from the server itself: one that is made up here may not ask this machine.
        await page.goto(f"{http_address(ingot)}/openapi.json")
        yield BrowserExamples(page)
        await browser.close()


async def test_every_example_runs_in_chromium(
    in_chromium: BrowserExamples, client: Client, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    url = origin.serve("/ts-chromium.mp4", Page(clip, rate=len(clip)))
    lines = await in_chromium.run("mp3.js", url, "song.mp3")
    assert "100 %" in lines[-1]
    song = tmp_path / "song.mp3"
    song.write_bytes(await in_chromium.read("song.mp3"))
    assert_mp3_plays(song)

    lines = await in_chromium.run("errors.js", origin.url("/ts-chromium-gone.mp4"))
    assert lines == ["the source has no media at this link"]

    other = origin.serve("/ts-chromium-2.mp4", Page(clip))
    await (await client.ingest_video(other, labels={"batch": "chromium"}))
    assert "SUCCEEDED" in (await in_chromium.run("watch.js", "chromium", "1"))[-1]

    content = media("ntsc.mp4").read_bytes()
    lines = await in_chromium.run("upload.js", "film.mp4", **{"film.mp4": content})
    assert hashlib.sha256(content).hexdigest() in lines[-1]
