"""Side files on their way into the bucket."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence

from ingot.v1.media_pb2 import SideFile
from ingot_server.extractor.result import FetchedSideFile
from ingot_server.pipeline.describe import name_extension
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transfer.staged import StagedUploads


async def put_side_files(
    context: WorkerContext,
    staged_uploads: StagedUploads,
    stem: str,
    files: Sequence[FetchedSideFile],
) -> list[SideFile]:
    """Puts side files into the bucket, under keys that begin with `stem`."""
    stored = []
    for number, side in enumerate(files, 1):
        kind = side.content_type or mimetypes.guess_type(side.path.name)[0] or ""
        staged_file = await staged_uploads.stage(
            side.path,
            f"{stem}.{number}{name_extension(side.path.name)}",
            content_type=kind or "application/octet-stream",
        )
        stored.append(
            SideFile(
                kind=side.kind,
                url=context.blobs.url(staged_file.key),
                content_type=kind,
                size_bytes=staged_file.size_bytes,
                language=side.language,
                automatic=side.automatic,
                sha256=staged_file.sha256,
            )
        )
    return stored
