"""Updates of yt-dlp: other releases of it come from the package index that uv is set up with.

The site is ours. Where a version has to fail at what another does, a line of it is changed: that is
what a site's change does to it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.result import Resolved
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES
from tests.origin import Origin, Page

OTHER = "2026.7.4"
BEST = Selection(mode=Selection.MODE_BEST)
SOURCE_SETTINGS = read_source_settings(Settings(), [source.name for source in SOURCES])
COMMAND = Path(sys.executable).with_name("ingot-server")


@dataclass
class UpdateHarness:
    """Jobs as a worker runs them, in one Extractor."""

    extractor: ExtractorPool
    proxy: EgressProxy

    async def version(self, url: str) -> str:
        """What a job's extraction says was used."""
        egress = self.proxy.grant("job")
        try:
            async with self.extractor.session(
                url, selection=BEST, options=IngestOptions(), proxy_url=egress.proxy_url
            ) as session:
                found = await session.resolve()
        finally:
            egress.revoke()
        assert isinstance(found, Resolved)
        return found.extraction.extractor_version


@dataclass
class PrintedLines:
    """What was said to the operator."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)


def page(origin: Origin, clip: bytes) -> str:
    return origin.serve("/bell.mp4", Page(clip))
