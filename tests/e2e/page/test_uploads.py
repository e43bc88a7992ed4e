"""Files that are uploaded from the web page: several at once, and through broken connections."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import random
import wave
from pathlib import Path

from playwright.async_api import Browser, expect

from ingot import Client
from tests.e2e.page.conftest import Window, open_window, page_of
from tests.installation import installation
from tests.media import media
from tests.npm import build_typescript_client, run_example
from tests.tcp_server import tcp_server

MIB = 1 << 20


class BreakingRelay:
    """Passes on connections to `target`. It breaks all of them after so many bytes, each once."""

    def __init__(self, *breaks: int) -> None:
        self.target = ""
        self.break_after(*breaks)
        self._links: set[asyncio.StreamWriter] = set()

    def break_after(self, *breaks: int) -> None:
        self.breaks = list(breaks)
        self._sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        responses, requests = await asyncio.open_connection(*self.target.split(":"))
        self._links |= {writer, requests}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, requests, counted=True))
                both.create_task(self._forward(responses, writer, counted=False))
        finally:
            self._links -= {writer, requests}
            requests.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
                self._sent += len(data) if counted else 0
                if self.breaks and self._sent > self.breaks[0]:
                    del self.breaks[0]
                    for link in self._links:
                        link.transport.abort()
        writer.close()


def large_sound(path: Path, size: int) -> str:
    """Write a sound of `size` bytes in which no two parts are alike. Return its SHA-256."""
    noise = random.Random(7)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(48_000)
        for _ in range(size // MIB):
            sound.writeframesraw(noise.randbytes(MIB))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def test_an_upload_that_is_broken_twice_arrives_whole_from_the_page_and_from_node(
    browser: Browser, tmp_path: Path
) -> None:
    build_typescript_client()
    path = tmp_path / "large.wav"
    sha256 = large_sound(path, 40 * MIB)
    relay = BreakingRelay(12 * MIB, 28 * MIB)
    async with tcp_server(relay.serve) as public:
        settings = {"workers": "1", "convert_workers": "0", "s3_public_endpoint": public}
        with installation(tmp_path / "data", **settings) as ingot:
            relay.target = ingot.s3_settings().s3_endpoint
            window = await open_window(browser, page_of(ingot))
            page = await window.open("#/uploads")
            async with page.expect_file_chooser() as chooser:
                await page.get_by_role("button", name="Choose files").click()
            await (await chooser.value).set_files(path)
            row = page.get_by_role("listitem").filter(has_text="large.wav")
            await expect(row).to_contain_text("Stored", timeout=60_000)
            assert not relay.breaks
            await row.get_by_role("link", name="Open").click()
            media_id = page.url.rpartition("/")[2]
            async with Client(ingot.grpc_address) as client:
                assert (await client.media(media_id)).blob.sha256 == sha256
            window.assert_well_behaved(public)
            await page.close()

            other = tmp_path / "other.wav"
            sha256 = large_sound(other, 24 * MIB)
            relay.break_after(6 * MIB, 18 * MIB)
            address = "http://" + ingot.wait_for(r"^HTTP\s+(\S+)")[1]
            output = await run_example("upload.js", str(other), INGOT_HTTP=address)
            assert not relay.breaks
            assert sha256 in output.splitlines()[-1]


async def test_of_several_dropped_files_the_one_that_is_not_media_fails_alone(
    window: Window,
) -> None:
    page = await window.open("#/uploads")
    files = [
        [name, base64.b64encode(content).decode()]
        for name, content in (
            ("one.m4a", media("half.m4a").read_bytes()),
            ("notes.txt", b"These are not media. " * 500),
            ("two.flac", media("six.flac").read_bytes()),
        )
    ]
    dropped = await page.evaluate_handle(
        """(files) => {
            const dropped = new DataTransfer();
            for (const [name, content] of files) {
                const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
                dropped.items.add(new File([bytes], name));
            }
            return dropped;
        }""",
        files,
    )
    area = page.get_by_role("group", name="Drop files here")
    await area.dispatch_event("drop", {"dataTransfer": dropped})

    rows = page.get_by_role("listitem")
    await expect(rows.filter(has_text="one.m4a")).to_contain_text("Stored")
    await expect(rows.filter(has_text="two.flac")).to_contain_text("Stored")
    failed = rows.filter(has_text="notes.txt")
    await expect(failed).to_contain_text("Failed")
    await expect(failed.get_by_role("button", name="Try again")).to_be_visible()
    await expect(page.get_by_text("2 of 3 files are stored")).to_be_visible()
