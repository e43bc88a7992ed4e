"""Side files for a media that is stored without them: extracted again, and not fetched again."""

from __future__ import annotations

import logging

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.extractor.result import Resolved
from ingot_server.intake import requested_side_files
from ingot_server.jobs.throttle import COOKIES_MAY_HELP
from ingot_server.library.catalog import files_of
from ingot_server.pipeline.attempt import Attempt
from ingot_server.pipeline.extract import better_identity, copy_cookies
from ingot_server.pipeline.side_files import put_side_files
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transfer.staged import StagedUploads

logger = logging.getLogger(__name__)


async def complete(
    context: WorkerContext, attempt: Attempt, stored: Media, options: IngestOptions
) -> Media:
    """`stored` with the side files of `options`; as it is where the source gives none now.

    The source's cookies are sent only when it says that it wants some.
    """
    cookies = context.throttle.cookies_for(attempt.source.name)
    try:
        try:
            return await _complete(context, attempt, stored, options, "")
        except Failure as failure:
            if not cookies or failure.reason not in COOKIES_MAY_HELP:
                raise
        return await _complete(context, attempt, stored, options, cookies)
    except Failure as failure:
        logger.warning("side files of %s: %s", stored.id, failure.message)
        return stored


async def _complete(
    context: WorkerContext, attempt: Attempt, stored: Media, options: IngestOptions, cookies: str
) -> Media:
    job = attempt.job
    egress = context.egress.grant(job.id, upstream=context.throttle.proxy_for(attempt.source.name))
    try:
        async with (
            context.scratch.folder(job.id, job.attempt) as folder,
            StagedUploads(context.blobs) as staged_uploads,
        ):
            async with context.extractor.session(
                attempt.identity.url,
                selection=job.selection,
                options=options,
                proxy_url=egress.proxy_url,
                cookies_file=await copy_cookies(folder, cookies),
                manifest=attempt.source.is_manifest,
            ) as session:
                found = await session.resolve()
                if not isinstance(found, Resolved):
                    return stored
                if better_identity(attempt.identity, found).key != stored.source.key:
                    return stored  # The page shows another media by now.
                files = await session.fetch_side_files(folder)
            media = Media()
            media.CopyFrom(stored)
            media.sought[:] = sorted({*stored.sought, *requested_side_files(options)})
            stem = f"media/{stored.id}/{job.id}-{job.attempt}"
            known = {(side.kind, side.language, side.automatic) for side in stored.side_files}
            new = [
                side for side in files if (side.kind, side.language, side.automatic) not in known
            ]
            media.side_files.extend(await put_side_files(context, staged_uploads, stem, new))
            # A manifest that names them may stand however the commit is answered.
            staged_uploads.keep()
            winner = await context.catalog.commit(media, replacing=stored.etag)
            if not files_of(media) <= files_of(winner):
                await staged_uploads.discard()
            return winner
    finally:
        egress.revoke()
