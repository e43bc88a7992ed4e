"""The staging of side files, such as subtitles, next to the file of their media item."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ingot.v1.media_pb2 import SideFile
from ingot_server.extractor.result import FetchedSideFile
from ingot_server.library.blobs import Blobs
from ingot_server.library.storyboard_index import with_links
from ingot_server.pipeline.description import name_extension
from ingot_server.transfer.staged import StagedUploads


async def stage_side_files(
    blobs: Blobs, staged_uploads: StagedUploads, stem: str, files: Sequence[FetchedSideFile]
) -> list[SideFile]:
    """Upload side files under keys that begin with `stem`, and return their descriptions."""
    stored = []
    names = {}
    for number, side in enumerate(files, 1):
        key = side_file_key(stem, number, name_extension(side.path.name))
        names[side.path.name] = PurePosixPath(key).name
        if side.kind == SideFile.KIND_STORYBOARD_INDEX:
            # Its sheets come before it.
            await asyncio.to_thread(_rename_sheets, side.path, names)
        kind = side.content_type or mimetypes.guess_type(side.path.name)[0] or ""
        staged = await staged_uploads.stage(
            side.path,
            key,
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
                converted=side.converted,
            )
        )
    return stored


def _rename_sheets(index: Path, names: Mapping[str, str]) -> None:
    index.write_text(with_links(index.read_text(encoding="utf-8"), names), encoding="utf-8")


def side_file_key(stem: str, number: int, suffix: str) -> str:
    """Return the key of a side file: `number` begins at 1, and `suffix` is its file extension."""
    return f"{stem}.{number}{suffix}"


def sheet_name(stem: str, number: int) -> str:
    """Return how the index of a storyboard that is made here names a sheet: its key's last part."""
    return PurePosixPath(side_file_key(stem, number, ".jpg")).name
