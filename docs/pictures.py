"""Draw the pictures of the concepts into docs/images: `python docs/pictures.py`.

They are SVG without scripts, fonts or style sheets, so the forge and both builders of the site show
them as they are, on a light background of their own.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
INK, PALE, BLUE, GREEN, AMBER = "#1f2937", "#6b7280", "#dbeafe", "#dcfce7", "#fef3c7"


class Picture:
    """A drawing of boxes and arrows, in pixels from the upper left corner."""

    def __init__(self, width: int, height: int, description: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="system-ui, sans-serif" font-size="14" role="img">\n'
            f"<title>{escape(description)}</title>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{PALE}"/></marker>'
            f'</defs>\n<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
        )
        self._parts: list[str] = []

    def box(self, x: int, y: int, width: int, fill: str, *lines: str, height: int = 0) -> None:
        """Draw a box with a title and smaller lines below it."""
        height = height or 24 + 18 * len(lines)
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
            f'stroke="{INK}"/>'
        )
        first = y + (height - 18 * len(lines)) // 2 + 14
        for number, line in enumerate(lines):
            self.text(x + width // 2, first + 18 * number, line, bold=number == 0)

    def text(self, x: int, y: int, line: str, *, bold: bool = False, pale: bool = False) -> None:
        """Write a line whose middle is at `x` and whose base line is at `y`."""
        size = 14 if bold else 12
        self._parts.append(
            f'<text x="{x}" y="{y}" text-anchor="middle" font-size="{size}" '
            f'font-weight="{600 if bold else 400}" fill="{PALE if pale else INK}">'
            f"{escape(line)}</text>"
        )

    def arrow(self, *points: tuple[int, int], dashed: bool = False) -> None:
        """Draw a line through the points, with a head at the last one."""
        path = "L".join(f"{x} {y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<path d="M{path}" fill="none" stroke="{PALE}" stroke-width="1.5"{dashes} '
            'marker-end="url(#head)"/>'
        )

    def __str__(self) -> str:
        return "\n".join([self._head, *self._parts, "</svg>\n"])


def parts() -> Picture:
    picture = Picture(860, 380, "The parts of Ingot and what goes between them")
    picture.box(20, 40, 150, BLUE, "caller", "service, page,", "command, curl", height=90)
    picture.box(300, 40, 180, GREEN, "API server", "answers calls,", "streams jobs", height=90)
    picture.box(300, 240, 180, AMBER, "Redis", "job records, leases,", "queue, cache", height=100)
    picture.box(
        640, 40, 200, AMBER, "S3 bucket", "blobs, manifests,", "journal: the truth", height=90
    )
    picture.box(640, 200, 200, GREEN, "worker", "resolve, download,", "validate, commit", height=80)
    picture.box(640, 320, 80, BLUE, "guard", height=40)
    picture.box(760, 320, 80, BLUE, "source", height=40)
    picture.box(20, 240, 150, GREEN, "child processes", "yt-dlp, ffmpeg,", "the prober", height=100)
    picture.arrow((170, 70), (300, 70))
    picture.text(235, 62, "Ingest, Watch", pale=True)
    picture.arrow((300, 110), (170, 110))
    picture.text(235, 126, "job, media", pale=True)
    picture.arrow((480, 85), (640, 85))
    picture.text(560, 77, "journal, manifests", pale=True)
    picture.arrow((360, 130), (360, 240))
    picture.text(330, 190, "job", pale=True)
    picture.arrow((420, 240), (420, 130), dashed=True)
    picture.text(462, 190, "changes", pale=True)
    picture.arrow((480, 265), (640, 245))
    picture.text(560, 242, "job id", pale=True)
    picture.arrow((640, 265), (480, 295))
    picture.text(575, 295, "record, lease", pale=True)
    picture.arrow((740, 200), (740, 130))
    picture.text(775, 168, "commit", pale=True)
    picture.arrow((680, 280), (680, 320))
    picture.arrow((720, 340), (760, 340))
    picture.arrow((640, 275), (540, 365), (95, 365), (95, 340))
    picture.text(300, 358, "starts, confines, ends", pale=True)
    return picture


def job() -> Picture:
    picture = Picture(940, 250, "The states and stages of a job")
    picture.box(20, 60, 140, BLUE, "QUEUED", "until it may run", height=70)
    stages = ("RESOLVING", "DOWNLOADING", "PROBING", "STORING", "COMMITTING")
    picture.box(210, 30, 540, GREEN, height=130)
    picture.text(480, 50, "RUNNING: an attempt, under a lease", bold=True)
    for number, stage in enumerate(stages):
        x = 222 + 106 * number
        picture.box(x, 80, 90, "#ffffff", height=44)
        picture.text(x + 45, 106, stage.title())
        if number:
            picture.arrow((x - 16, 102), (x, 102))
    picture.text(480, 148, "a conversion has CONVERTING in place of the first three", pale=True)
    for number, (state, line) in enumerate(
        [("SUCCEEDED", "media"), ("FAILED", "a reason"), ("CANCELLED", "a reason")]
    ):
        picture.box(800, 14 + 62 * number, 120, AMBER, state, line, height=52)
        picture.arrow((750, 95), (800, 40 + 62 * number))
    picture.arrow((160, 95), (210, 95))
    picture.arrow((480, 160), (480, 205), (90, 205), (90, 130))
    picture.text(285, 198, "transient failure, lost worker: another attempt", pale=True)
    picture.text(
        470, 235, "Every change has a revision, and a watcher gets every state and every stage."
    )
    return picture


def identity() -> Picture:
    picture = Picture(860, 290, "From URLs to an identity, and what the bucket has under it")
    urls = (
        "youtu.be/p9kdDet7G14?si=x",
        "youtube.com/watch?v=p9kdDet7G14",
        "m.youtube.com/shorts/...",
    )
    for number, url in enumerate(urls):
        picture.box(10, 20 + 50 * number, 244, BLUE, height=36)
        picture.text(132, 42 + 50 * number, url)
        picture.arrow((254, 38 + 50 * number), (290, 88))
    picture.box(290, 60, 190, GREEN, "source key", "youtube:p9kdDet7G14", height=56)
    picture.box(290, 160, 190, BLUE, "selection", "best, or audio only, ...", height=56)
    picture.arrow((480, 88), (540, 120))
    picture.arrow((480, 188), (540, 140))
    picture.box(540, 100, 120, GREEN, "media id", "a SHA-256", height=56)
    picture.arrow((660, 115), (700, 75))
    picture.arrow((660, 140), (700, 205))
    picture.box(700, 20, 140, AMBER, "media.json", "the manifest,", "written last", height=80)
    picture.box(700, 180, 140, AMBER, "blob", "the file itself", height=56)
    picture.arrow((770, 100), (770, 180), dashed=True)
    picture.text(806, 145, "names", pale=True)
    picture.arrow((600, 156), (600, 240))
    picture.text(566, 200, "+ recipe", pale=True)
    picture.box(500, 240, 200, GREEN, "id of the MP3", height=36)
    return picture


PICTURES = {"parts.svg": parts, "job.svg": job, "identity.svg": identity}


def main() -> None:
    for name, draw in PICTURES.items():
        (IMAGES / name).write_text(str(draw()))


if __name__ == "__main__":
    main()
