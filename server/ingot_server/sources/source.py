"""What a source is: something that knows its own URLs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class FetchMethod(enum.Enum):
    """How a source's media is fetched; the pipeline has one function for each."""

    HTTP = "http"
    """The canonical URL is the file itself."""
    EXTRACTOR = "extractor"
    """yt-dlp finds the files behind the canonical URL."""
    TELEGRAM_POST = "telegram_post"
    """yt-dlp finds the file, and Telegram's page says why where it does not."""
    TELEGRAM_FILE = "telegram_file"
    """Telegram's Bot API says where the file is."""
    OBJECT = "object"
    """The file lies in a bucket already."""

    @property
    def may_be_live(self) -> bool:
        """Whether what it leads to can be a live stream, which is recorded."""
        return self in {FetchMethod.HTTP, FetchMethod.EXTRACTOR}


@dataclass(frozen=True, slots=True)
class Identity:
    """What one URL names at its source, however the URL was written."""

    source: str
    """Name of the source."""
    key: str
    """Identity, `<source>:<id>`; every way of writing one media gives the same."""
    url: str
    """Canonical URL: the one that is fetched and shown."""
    page_url: str
    """Page for a person; equal to `url` when there is no other."""


class Source(Protocol):
    """One place that media come from.

    Implementations are pure: they look at the URL and at nothing else.
    """

    @property
    def name(self) -> str:
        """Short and lower-case, the same in keys, settings and logs."""

    @property
    def mutable(self) -> bool:
        """Whether what is behind one URL may change, so that stored copies are revalidated."""

    @property
    def fetch_method(self) -> FetchMethod:
        """How its media is fetched."""

    def identify(self, url: str) -> Identity | None:
        """What `url` names here; None when it is not this source's.

        Raises Failure with INVALID_REQUEST, `url` among its violations, for a URL that is broken.
        """


@runtime_checkable
class ListSource(Protocol):
    """A source that has lists of media too: playlists, channels, albums. As pure as a Source."""

    def identify_list(self, url: str) -> Identity | None:
        """The list that `url` names or is inside of, else what `identify` answers.

        Raises Failure with INVALID_REQUEST as `identify` does.
        """


@runtime_checkable
class PreflightSource(Protocol):
    """A source where one small request tells whether a media exists. As pure as a Source."""

    def preflight_url(self, identity: Identity) -> str | None:
        """What answers HEAD with 404 where a stranger finds no such media; None: nothing does."""


def may_name_either(source: Source) -> bool:
    """Whether one URL of `source` may be that of a media, or that of a list of them.

    So it is on the open web; elsewhere the URL tells.
    """
    return source.mutable and source.fetch_method in {FetchMethod.HTTP, FetchMethod.EXTRACTOR}
