"""What a notebook shows of jobs and media items."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from ingot.errors import from_status
from ingot.notebook import MediaView, job_html
from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job, JobStage, JobState
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure

HOSTILE = "</td><script>alert(1)</script>\" onerror='alert(2)' \x1b[31m\u202e&lt;" + "long " * 2000
LINK = "https://store.test/blob?signature=a&expires=1"


class Page(HTMLParser):
    """HTML as a browser reads it: its elements with their attributes, and its text by cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: dict[str, str] = {}
        self._open: list[str] = []
        self._name = ""
        self.feed(html)
        self.close()
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "th":
            self._name = data
        elif self._open and self._open[-1] == "td":
            self.cells[self._name] = data

    def attributes(self, tag: str) -> dict[str, str | None]:
        (found,) = [attributes for name, attributes in self.elements if name == tag]
        return found

    def tags(self) -> set[str]:
        return {name for name, _ in self.elements}


def make_view(content_type: str, title: str = "Clip", url: str = LINK) -> Page:
    media = Media(id="m" * 52, title=title, uploader=title)
    media.blob.content_type, media.blob.size_bytes = content_type, 1500
    return Page(MediaView(media, url, datetime(2026, 3, 1, tzinfo=UTC))._repr_html_())


def test_a_running_job_shows_its_progress() -> None:
    job = Job(id="a", display_name="Clip", state=JobState.JOB_STATE_RUNNING)
    job.stage = JobStage.JOB_STAGE_DOWNLOADING
    job.progress.fraction = 0.25
    page = Page(job_html(job, None))

    assert page.attributes("progress") == {"max": "1", "value": "0.2500"}
    assert page.cells == {"job": "a", "name": "Clip", "state": "downloading"}


def test_a_failed_job_says_why_and_what_to_do() -> None:
    status = Failure(reason_pb2.REASON_ADDRESS_FORBIDDEN, "A private address.").status()
    page = Page(job_html(Job(id="a", state=JobState.JOB_STATE_FAILED), from_status(status)))

    assert page.cells["error"] == "A private address. [ADDRESS_FORBIDDEN]"
    assert page.cells["what to do"].startswith("Use a public address.")


@pytest.mark.parametrize(
    ("content_type", "tag"),
    [("video/mp4", "video"), ("audio/mpeg", "audio"), ("image/png", "img")],
)
def test_a_media_item_shows_its_player_and_metadata(content_type: str, tag: str) -> None:
    page = make_view(content_type)

    assert page.attributes(tag)["src"] == LINK
    assert page.attributes("a")["href"] == LINK
    assert page.cells["title"] == "Clip"
    assert page.cells["size"] == "1.5 kB (1500 bytes)"


def test_what_no_player_plays_is_a_link() -> None:
    assert make_view("application/json").tags() == {"div", "a", "table", "tr", "th", "td"}


def test_hostile_texts_stay_text() -> None:
    page = make_view("image/png", HOSTILE)
    failed = Job(id="a", display_name=HOSTILE, state=JobState.JOB_STATE_FAILED)
    status = Failure(reason_pb2.REASON_NOT_MEDIA, HOSTILE).status()
    job_page = Page(job_html(failed, from_status(status)))

    assert page.tags() == {"div", "img", "a", "table", "tr", "th", "td"}
    assert set(page.attributes("img")) == {"width", "src", "alt"}
    assert job_page.tags() == {"div", "table", "tr", "th", "td"}
    for shown in (page.cells["title"], job_page.cells["name"], job_page.cells["error"]):
        assert shown.startswith("</td><script>alert(1)</script>\" onerror='alert(2)' ")
        assert not {"\x1b", "\u202e"} & set(shown)
        assert len(shown) < 600


def test_only_web_links_are_used() -> None:
    assert make_view("video/mp4", url="javascript:alert(1)").tags() == {"table", "tr", "th", "td"}
