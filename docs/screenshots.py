"""Takes screenshots of the web page.

    python docs/screenshots.py             those that the documentation shows, into docs/images
    python docs/screenshots.py FOLDER      every view at three widths, light and dark

It needs Chromium (Debian's package chromium) and what `make install-dev` installs. Everything runs
on this machine, as in demo.py: ffmpeg makes the media, a web server on loopback serves them.
"""

from __future__ import annotations

import asyncio
import http.server
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr, ClassVar, Final
from urllib.parse import quote

import imageio_ffmpeg
from demo import start_ingot
from playwright.async_api import Page, async_playwright, expect

from ingot import Client
from ingot.v1.job_pb2 import JobState
from ingot.v1.recipe_pb2 import Recipe

if TYPE_CHECKING:
    from _typeshed import SupportsRead, SupportsWrite

IMAGES: Final = Path(__file__).parent / "images"
WIDTHS: Final = {"wide": (1440, 900), "medium": (900, 1000), "phone": (390, 844)}
THEMES: Final = ("light", "dark")
SHOWN_VIEWS: Final = ("paste", "jobs", "job", "library", "media", "system")
SHOWN_LOOKS: Final = (("wide", "light"), ("wide", "dark"), ("phone", "light"))
NOT_SHOWN: Final = ("job-phone-light", "library-phone-light", "system-phone-light")
SLOW: Final = "slow"
SLOW_BYTES_PER_SECOND: Final = 40_000


@dataclass(frozen=True)
class Film:
    """A film that ffmpeg makes: a pattern, with a tone as its sound."""

    title: str
    artist: str
    pattern: str
    seconds: int
    chapters: tuple[str, ...] = ()


FILMS: Final = (
    Film(
        "Rule 110, line by line",
        "Institute of Patterns",
        "cellauto=size=640x360:rate=25:rule=110",
        30,
    ),
    Film("Cells at play", "Institute of Patterns", "life=size=640x360:rate=25:mold=10", 20),
    Film(
        "Colours of the evening",
        "North Shore Films",
        "gradients=size=1280x720:rate=25:n=4:c0=#14213d:c1=#7b2d5b:c2=#e07a5f:c3=#f2cc8f:seed=3",
        45,
        chapters=("Sunset", "Blue hour", "Night"),
    ),
    Film("A test card, with a clock", "Public Television", "testsrc2=size=1280x720:rate=25", 15),
    Film("Two hundred shades", "Institute of Patterns", "allrgb=rate=1", 25),
    Film("The long interview", "North Shore Films", "smptehdbars=size=1920x1080:rate=25", 90),
)


class Handler(http.server.SimpleHTTPRequestHandler):
    """A web server for one folder. What is in SLOW takes its time, and fails the first time."""

    tried: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        if f"/{SLOW}/" in self.path and self.path not in self.tried:
            self.tried.add(self.path)
            self.send_error(503)
        else:
            super().do_GET()

    def copyfile(self, source: SupportsRead[AnyStr], outputfile: SupportsWrite[AnyStr]) -> None:
        pause = 0.1 if f"/{SLOW}/" in self.path else 0.0
        while chunk := source.read(int(SLOW_BYTES_PER_SECOND * 0.1)):
            with suppress(ConnectionError):  # a job that was cancelled
                outputfile.write(chunk)
            time.sleep(pause)

    def log_message(self, *_: object) -> None:
        pass


async def main() -> None:
    images = Path(sys.argv[1]) if sys.argv[1:] else IMAGES
    chromium = shutil.which("chromium") or sys.exit("Install Debian's package chromium.")
    with tempfile.TemporaryDirectory(prefix="ingot-screenshots-") as directory:
        folder = Path(directory)
        address = serve(folder)
        process, server = start_ingot(folder / "data")
        try:
            assert process.stdout is not None
            lines = (re.match(r"page\s+(\S+)", line) for line in process.stdout)
            page = next(found[1] for found in lines if found)
            async with Client(server) as client, async_playwright() as driver:
                browser = await driver.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox"]
                )
                # One window, which watches the jobs from their beginning: so their time lines are
                # complete.
                window = await browser.new_page(reduced_motion="reduce")
                await window.goto(page)
                places = await fill(client, address)
                link = f"{address}/{quote(FILMS[5].title)}.mp4"
                images.mkdir(parents=True, exist_ok=True)
                for look in SHOWN_LOOKS if images == IMAGES else product(WIDTHS, THEMES):
                    await take(window, link, places, images, *look)
                await browser.close()
        finally:
            process.terminate()
            process.wait()


def serve(folder: Path) -> str:
    """Make the films, and return the address of a web server that has them."""
    root = folder / "www"
    (root / SLOW).mkdir(parents=True)
    for film in FILMS:
        path = root / f"{film.title}.mp4"
        subprocess.run(
            [
                imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error",
                "-f", "lavfi", "-i", film.pattern,
                "-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*(220+20*floor(t))*t)*(0.6+0.4*sin(t))",
                "-f", "ffmetadata", "-i", str(chapters_of(film, folder)),
                "-t", str(film.seconds), "-c:v", "libx264", "-preset", "ultrafast",
                "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart",
                "-metadata", f"title={film.title}", "-metadata", f"artist={film.artist}", str(path),
            ],
            check=True,
        )  # fmt: skip
        shutil.copy(path, root / SLOW / path.name)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *request: Handler(*request, directory=str(root))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def chapters_of(film: Film, folder: Path) -> Path:
    """Write the chapters of a film, equally long, as a file for ffmpeg."""
    path = folder / f"{film.title}.txt"
    length = film.seconds // max(1, len(film.chapters))
    path.write_text(
        ";FFMETADATA1\n"
        + "".join(
            f"[CHAPTER]\nTIMEBASE=1/1\nSTART={number * length}\nEND={(number + 1) * length}\n"
            f"title={title}\n"
            for number, title in enumerate(film.chapters)
        )
    )
    return path


async def fill(client: Client, address: str) -> dict[str, str]:
    """Store media, and leave jobs in every state. Return the place of each view by its name."""
    urls = [f"{address}/{quote(film.title)}.mp4" for film in FILMS]
    stored = [await client.ingest_video(url, labels={"team": "archive"}) for url in urls[:5]]
    media = [await job for job in stored]
    image = Recipe(image=Recipe.Image(max_height=360))
    await asyncio.gather(*[await client.convert(each.id, image) for each in media])
    shown = media[2].id
    await (await client.convert(shown, Recipe(mp3=Recipe.Mp3())))
    await (await client.convert(shown, Recipe(waveform=Recipe.Waveform())))
    failed = await client.ingest_video(f"{address}/not-there.mp4")
    async for _ in failed:
        pass
    cancelled = await client.ingest_video(f"{address}/{SLOW}/{quote(FILMS[4].title)}.mp4")
    await cancelled.cancel()
    running = await client.ingest_video(
        f"{address}/{SLOW}/{quote(FILMS[0].title)}.mp4", recipes=[Recipe(mp3=Recipe.Mp3())]
    )
    await client.ingest_video(f"{address}/{SLOW}/{quote(FILMS[3].title)}.mp4")
    async for update in running:
        if update.state == JobState.JOB_STATE_RUNNING and update.progress.fraction > 0.05:
            break
    return {
        "paste": "#/",
        "jobs": "#/jobs",
        "job": f"#/jobs/{running.id}",
        "failed-job": f"#/jobs/{failed.id}",
        "library": "#/library",
        "media": f"#/library/{shown}",
        "uploads": "#/uploads",
        "system": "#/system",
    }


async def take(
    window: Page, link: str, places: dict[str, str], images: Path, width: str, theme: str
) -> None:
    """Take a picture of each view, in the one window."""
    across, down = WIDTHS[width]
    await window.set_viewport_size({"width": across, "height": down})
    await window.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    for name, place in places.items():
        path = images / f"{name}-{width}-{theme}.png"
        if images == IMAGES and (name not in SHOWN_VIEWS or path.stem in NOT_SHOWN):
            continue
        await window.evaluate("(place) => { location.hash = place; }", place)
        if name == "paste":
            await window.get_by_role("textbox", name="Links to video or audio").fill(link)
        await settled(window)
        await window.screenshot(path=path)
        if name != "media":  # a film needs more colours
            shrink(path)
        print(path, flush=True)


def shrink(path: Path) -> None:
    """Write a picture again with the 256 colours that suit it best: half the size."""
    original = path.rename(path.with_suffix(".original.png"))
    palette = "palettegen=reserve_transparent=0"
    best = f"split[all][some];[some]{palette}[best];[all][best]paletteuse=dither=none"
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", original, "-vf", best, path],
        check=True,
    )
    original.unlink()


async def settled(window: Page) -> None:
    """Wait until no placeholder is left, and then for pictures and the first measurements."""
    await expect(window.get_by_role("navigation").first).to_be_visible()
    await expect(window.locator(".skeleton")).to_have_count(0)
    await window.wait_for_timeout(1500)


if __name__ == "__main__":
    asyncio.run(main())
