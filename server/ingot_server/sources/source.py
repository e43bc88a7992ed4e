"""The protocol of a source, and the identity that a source gives to a URL."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ingot.v1 import media_pb2
from ingot.v1.media_pb2 import Media


class FetchMethod(enum.Enum):
    """How the media of a source is fetched. `pipeline/ingest.py` maps each method to its code."""

    HTTP = "http"
    """The canonical URL is the file, or a page or manifest for yt-dlp."""
    EXTRACTOR = "extractor"
    """yt-dlp finds the files behind the canonical URL."""
    TELEGRAM_POST = "telegram_post"
    """yt-dlp finds the file; if it does not, Telegram's page says why."""
    TELEGRAM_FILE = "telegram_file"
    """Telegram's Bot API or MTProto sends the file."""
    OBJECT = "object"
    """The file is an object in a bucket, and stays there."""
    UPLOAD = "upload"
    """The file is in the bucket as the parts of an upload."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What one URL names at its source, however the URL was written."""

    source: str
    """Name of the source."""
    key: str
    """Source key, `<source>:<id>`. All URLs of one media item have the same key."""
    url: str
    """Canonical URL: the one that is shown."""
    page_url: str
    """Page for a person; equal to `url` if there is no other."""
    fetch_url: str = ""
    """URL that is requested, as it was written; empty if that is `url`."""

    @property
    def requested_url(self) -> str:
        """The URL to request from the source."""
        return self.fetch_url or self.url

    def media(self, media_id: str) -> Media:
        """Return a Media that has this identity, `media_id` and nothing else."""
        source = media_pb2.Source(name=self.source, key=self.key, page_url=self.page_url)
        return Media(id=media_id, url=self.url, source=source)


class Source(Protocol):
    """One place that media comes from.

    A source is pure: `identify` reads the URL and nothing else. Each implementation sets its
    properties as plain attributes (`SourceDefaults` has the usual values), so nothing has to be
    inferred from its name or fetch method.
    """

    @property
    def name(self) -> str:
        """Short and lower-case, the same in keys, settings and logs."""

    @property
    def fetch_method(self) -> FetchMethod:
        """How its media is fetched."""

    @property
    def accepts(self) -> Sequence[str]:
        """Examples of the URLs that it accepts, for ListSources."""

    @property
    def required_setting(self) -> str | None:
        """Name of the setting without which it cannot fetch anything; None if it needs none."""

    @property
    def mutable(self) -> bool:
        """Whether the content behind one URL may change, so that stored copies are revalidated."""

    @property
    def has_own_ids(self) -> bool:
        """Whether its keys contain the id that the source itself gives to a media item.

        Otherwise a key contains a URL, and an extraction may find a better identity.
        """

    @property
    def in_bucket(self) -> bool:
        """Whether its media is in a bucket already, so that no other host is contacted."""

    @property
    def has_public_host(self) -> bool:
        """Whether the canonical URL names a host, which must then pass `check_host`."""

    @property
    def throttled_by_host(self) -> bool:
        """Whether the limit is per host of the open web instead of one for the source.

        A site that refuses requests says nothing about other sites.
        """

    @property
    def uses_extractor(self) -> bool:
        """Whether every fetch begins with yt-dlp, so that the version of yt-dlp matters."""

    @property
    def is_manifest(self) -> bool:
        """Whether each canonical URL is known to be that of an HLS or DASH manifest."""

    @property
    def may_be_list(self) -> bool:
        """Whether one URL may name a media item or a list, which only the response tells.

        False if the URL itself tells.
        """

    @property
    def may_be_live(self) -> bool:
        """Whether its media may be a live stream, which is recorded."""

    @property
    def has_selections(self) -> bool:
        """Whether a caller can choose between several formats of its media."""

    @property
    def offers_audio_only(self) -> bool:
        """Whether it is known to offer the audio of a video by itself."""

    @property
    def has_side_files(self) -> bool:
        """Whether its media may have side files, such as subtitles and thumbnails."""

    @property
    def login_cookies(self) -> Sequence[Collection[str]]:
        """Which cookies say who is signed in: one of each group. Empty if that is not known."""

    def identify(self, url: str) -> Identity | None:
        """Return what `url` names at this source, or None if the URL belongs to another source.

        Raises Failure INVALID_REQUEST, with `url` among its violations, if the URL is malformed.
        """


class SourceDefaults:
    """The properties of a source whose media is neither on the open web nor known to yt-dlp.

    A source inherits these and declares those that differ. `Source` says what each one means.
    """

    required_setting: str | None = None
    mutable: bool = False
    has_own_ids: bool = True
    in_bucket: bool = False
    has_public_host: bool = False
    throttled_by_host: bool = False
    uses_extractor: bool = False
    is_manifest: bool = False
    may_be_list: bool = False
    may_be_live: bool = False
    has_selections: bool = False
    offers_audio_only: bool = False
    has_side_files: bool = False
    login_cookies: Sequence[Collection[str]] = ()


@runtime_checkable
class ListSource(Protocol):
    """A source that also has lists: playlists, channels, albums. As pure as a Source."""

    def identify_list(self, url: str) -> Identity | None:
        """Return the list that `url` names or is part of, or else the result of `identify`.

        Raises Failure INVALID_REQUEST as `identify` does.
        """


@runtime_checkable
class PreflightSource(Protocol):
    """A source that can say in one small request whether a media item exists. Also pure."""

    def preflight_url(self, identity: Identity) -> str | None:
        """Return a URL whose HEAD gives 404 if the media item does not exist or is private.

        None if the source has no such URL for this identity.
        """
