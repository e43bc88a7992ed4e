"""Which media items an export or import is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingot.v1.media_pb2 import Media


@dataclass(frozen=True, slots=True)
class Choice:
    """What a media item must have; a field that is empty leaves the choice open."""

    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """Name of its source, such as `youtube`."""
    owner: str = ""

    @property
    def is_all(self) -> bool:
        """Whether every media item is chosen."""
        return not (self.labels or self.source or self.owner)

    def takes(self, media: Media) -> bool:
        """Return whether the media item is chosen."""
        return (
            all(media.labels.get(key) == value for key, value in self.labels.items())
            and self.source in ("", media.source.name)
            and self.owner in ("", media.owner)
        )
