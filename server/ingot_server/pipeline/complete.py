"""Side files for a media that is stored without them: extracted again, and not fetched again."""

from __future__ import annotations

import logging

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.jobs.care import COOKIES_MAY_HELP
from ingot_server.library.catalog import files_of
from ingot_server.library.side_files import sought
from ingot_server.pipeline.beside import put_side_files
from ingot_server.pipeline.extract import better_identity, cookie_jar
from ingot_server.pipeline.extraction.result import Resolved
from ingot_server.pipeline.placement import Placement
from ingot_server.pipeline.resources import Resources
from ingot_server.pipeline.work import Work
from ingot_server.sources.web import NAME as WEB

logger = logging.getLogger(__name__)


async def complete(
    resources: Resources, work: Work, stored: Media, options: IngestOptions
) -> Media:
    """`stored` with the side files of `options`; as it is where the source gives none now.

    The source's cookies are sent only when it says that it wants some.
    """
    cookies = resources.care.cookies_for(work.source.name)
    try:
        try:
            return await _complete(resources, work, stored, options, "")
        except Failure as failure:
            if not cookies or failure.reason not in COOKIES_MAY_HELP:
                raise
        return await _complete(resources, work, stored, options, cookies)
    except Failure as failure:
        logger.warning("side files of %s: %s", stored.id, failure.message)
        return stored


async def _complete(
    resources: Resources, work: Work, stored: Media, options: IngestOptions, cookies: str
) -> Media:
    job = work.job
    egress = resources.egress.issue(job.id, upstream=resources.care.proxy_for(work.source.name))
    try:
        async with (
            resources.scratch.folder(job.id, job.attempt) as folder,
            Placement(resources.blobs) as placement,
        ):
            async with resources.extractor.session(
                work.identity.url,
                selection=job.selection,
                options=options,
                proxy_url=egress.proxy_url,
                cookies_file=await cookie_jar(folder, cookies),
                manifest=work.source.name == WEB,
            ) as session:
                found = await session.resolve()
                if not isinstance(found, Resolved):
                    return stored
                if better_identity(work.identity, found).key != stored.source.key:
                    return stored  # The page shows another media by now.
                files = await session.fetch_side_files(folder)
            media = Media()
            media.CopyFrom(stored)
            media.sought[:] = sorted({*stored.sought, *sought(options)})
            stem = f"media/{stored.id}/{job.id}-{job.attempt}"
            known = {(side.kind, side.language, side.automatic) for side in stored.side_files}
            new = [
                side for side in files if (side.kind, side.language, side.automatic) not in known
            ]
            media.side_files.extend(await put_side_files(resources, placement, stem, new))
            # A manifest that names them may stand however the commit is answered.
            placement.keep()
            winner = await resources.catalog.commit(media, replacing=stored.etag)
            if not files_of(media) <= files_of(winner):
                await placement.discard()
            return winner
    finally:
        egress.revoke()
