"""Jobs and media items as HTML, for notebooks, which show what `_repr_html_` of an object returns.

Titles and messages come from strangers: all text is escaped, and only http and https links are
used. There are no scripts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from html import escape

from ingot import render
from ingot.error_text import hint
from ingot.errors import IngotError
from ingot.v1.job_pb2 import Job, JobState
from ingot.v1.media_pb2 import Media

_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class MediaView:
    """A media item that a notebook shows with a player, as `Client.show` returns it."""

    media: Media
    url: str = field(repr=False)
    """Signed link to the file. Everyone who has it can read the file."""
    expire_time: datetime
    """When the link stops working."""

    def _repr_html_(self) -> str:
        return _player(self.media, self.url) + _table(render.media_details(self.media))


def job_html(job: Job, error: IngotError | None) -> str:
    """Return a state of a job as HTML; `error` is why it failed or was cancelled."""
    rows = [
        ("job", job.id),
        ("name", job.display_name or job.url),
        ("state", render.state(job)),
        ("entries", render.entries(job)),
        ("waiting", render.waiting(job.waiting)),
        ("media", job.media.id if job.state == JobState.JOB_STATE_SUCCEEDED else ""),
    ]
    if error is not None:
        reason = f" [{error.reason}]" if error.reason else ""
        rows += [("error", error.message + reason), ("what to do", hint(error))]
    fraction = job.progress.fraction
    bar = f'<progress max="1" value="{fraction:.4f}"></progress> {fraction:.0%}'
    return f"<div>{bar if job.HasField('progress') else ''}{_table(rows)}</div>"


def _player(media: Media, url: str) -> str:
    kind = media.blob.content_type.partition("/")[0]
    if not url.startswith(("https://", "http://")):
        return ""
    link = _text(url, longest=None)
    match kind:
        case "video":
            player = f'<video controls preload="metadata" width="640" src="{link}"></video>'
        case "audio":
            player = f'<audio controls preload="metadata" src="{link}"></audio>'
        case "image":
            player = f'<img width="640" src="{link}" alt="{_text(media.title)}">'
        case _:
            player = ""
    return f'<div>{player}<div><a href="{link}" rel="noreferrer">Download</a></div></div>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows if value
    )
    return f"<table>{cells}</table>"


def _text(text: str, longest: int | None = _LONGEST_TEXT) -> str:
    """Return text for an element or an attribute; a long one is cut, unless `longest` is None."""
    if longest is not None and len(text) > longest:
        text = f"{text[:longest]}..."
    return escape(render.printable(text))
