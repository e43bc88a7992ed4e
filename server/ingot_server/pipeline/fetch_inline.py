"""The fetch method for media that is in the URL itself."""

from __future__ import annotations

from ingot.v1 import job_pb2
from ingot_server.jobs.changes import entered
from ingot_server.library.blobs import Blobs
from ingot_server.pipeline.attempt import Attempt, Stored
from ingot_server.pipeline.landing import Landing
from ingot_server.pipeline.received import Received
from ingot_server.sources.data import inline_content
from ingot_server.transfer.scratch import Scratch, ScratchFile
from ingot_server.transfer.streaming_upload import StreamingUpload


async def fetch_inline(
    attempt: Attempt, landing: Landing, blobs: Blobs, scratch: Scratch
) -> Stored:
    """Store the media in the URL. Raises Failure with the reason why not."""
    job = attempt.job
    async with (
        scratch.open(job.id, job.attempt) as file,
        StreamingUpload(blobs, attempt.blob_stem, file) as upload,
    ):
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_DOWNLOADING))
        await upload.run_alongside(_write(file, attempt.identity.url))
        received = Received(path=file.path, media_id=job.media.id, identity=attempt.identity)
        return Stored(await landing.land(attempt, received, upload), cached=False)


async def _write(file: ScratchFile, url: str) -> None:
    content = inline_content(url)
    assert content is not None, "the source accepted the URL"
    await file.write(content)
    await file.complete()
