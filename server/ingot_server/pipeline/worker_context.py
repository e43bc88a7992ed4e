"""The parts of a worker that its jobs share."""

from __future__ import annotations

from dataclasses import dataclass

from ingot_server.config import Settings
from ingot_server.cookie_health import CookieHealth
from ingot_server.egress.proxy import EgressProxy
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.intake import Intake
from ingot_server.jobs.job_bytes import JobBytes
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.pipeline.await_job import JobWaiter
from ingot_server.pipeline.playlist import Playlists
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.slots import Slots
from ingot_server.transcode.speculative import SpeculativeTranscoder
from ingot_server.transcode.transcoder import Transcoder
from ingot_server.transfer.scratch import Scratch


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """One object of each kind. The worker starts and closes them."""

    catalog: Catalog
    intake: Intake
    blobs: Blobs
    egress: EgressProxy
    scratch: Scratch
    prober: Prober
    extractor: ExtractorPool
    throttle: SourceThrottle
    cookie_health: CookieHealth
    previews: Previews
    job_bytes: JobBytes
    playlists: Playlists
    job_waiter: JobWaiter
    ffmpeg: Ffmpeg
    transcoder: Transcoder
    slots: Slots
    """What conversions share that were not dispatched, but run where their workflow does."""
    speculative: SpeculativeTranscoder
    settings: Settings
