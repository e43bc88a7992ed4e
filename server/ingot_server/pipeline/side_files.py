"""The staging of side files: subtitles and thumbnails, next to the file of their media item."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence

from ingot.v1.media_pb2 import SideFile
from ingot_server.extractor.result import FetchedSideFile
from ingot_server.library.blobs import Blobs
from ingot_server.pipeline.description import name_extension
from ingot_server.transfer.staged import StagedUploads


async def stage_side_files(
    blobs: Blobs, staged_uploads: StagedUploads, stem: str, files: Sequence[FetchedSideFile]
) -> list[SideFile]:
    """Upload side files under keys that begin with `stem`, and return their descriptions."""
    stored = []
    for number, side in enumerate(files, 1):
        kind = side.content_type or mimetypes.guess_type(side.path.name)[0] or ""
        staged = await staged_uploads.stage(
            side.path,
            f"{stem}.{number}{name_extension(side.path.name)}",
            content_type=kind or "application/octet-stream",
        )
        stored.append(
            SideFile(
                kind=side.kind,
                url=blobs.url(staged.key),
                content_type=kind,
                size_bytes=staged.size_bytes,
                language=side.language,
                automatic=side.automatic,
                sha256=staged.sha256,
            )
        )
    return stored
