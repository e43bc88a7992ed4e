"""What the jobs of a worker work with, all of them with the same."""

from __future__ import annotations

from dataclasses import dataclass

from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.jobs.care import SourceCare
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.pipeline.conversion.ahead import Ahead
from ingot_server.pipeline.extractor import Extractor
from ingot_server.pipeline.ffmpeg import Ffmpeg
from ingot_server.pipeline.following import Following
from ingot_server.pipeline.playlist import Playlists
from ingot_server.pipeline.probe import Prober
from ingot_server.pipeline.scratch import Scratch
from ingot_server.pipeline.slots import Slots


@dataclass(frozen=True, slots=True)
class Resources:
    """One of each for a worker, which starts and closes them."""

    catalog: Catalog
    blobs: Blobs
    egress: EgressProxy
    scratch: Scratch
    prober: Prober
    extractor: Extractor
    care: SourceCare
    playlists: Playlists
    following: Following
    ffmpeg: Ffmpeg
    slots: Slots
    ahead: Ahead
    settings: Settings
