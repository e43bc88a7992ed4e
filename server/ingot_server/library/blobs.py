"""The installation's bucket, which is the source of truth.

    media/<id>/<attempt>.<ext>     a blob; it counts only once a manifest names it
    media/<id>/media.json          its manifest, see catalog.py
    journal/<group>                accepted jobs that have not ended, see journal_objects.py
    index/<character>              a copy of a part of the index, see media_list.py
    feeds/<id>                     podcast feeds, see feed_objects.py
    subscriptions/<id>             what is followed, see subscription_objects.py
    scrub/<name>                   how far a scrub has come, see scrubber.py
    uploads/<hash>/...             what callers upload, until it is a media item; see uploads.py
    probe/<random>                 written and removed by `prepare`, see bucket_probe.py

All of it lies under INGOT_S3_PREFIX, if that is set: keys are relative to it, and no method reaches
what lies beside it. URLs have the whole name of an object, so that any client of S3 finds it.

A key is written by a conditional PUT, or it is new and belongs to one writer. ETags are without
their quotes.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from minio.datatypes import ListMultipartUploadsResult
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.findings import require
from ingot_server.library.bucket import CHUNK_BYTES, Bucket, release
from ingot_server.library.bucket_probe import probe_bucket
from ingot_server.library.bucket_settings import read_bucket_settings
from ingot_server.library.conditional_writes import put
from ingot_server.library.multipart import PARTS_AT_ONCE, Content, MultipartUpload, StoredBlob
from ingot_server.library.s3 import ABSENT, ADVICE, S3, SMALL_BYTES, etag_of
from ingot_server.outage import Outage

__all__ = ["CHUNK_BYTES", "Blobs", "Bucket", "StoredBlob", "StoredObject", "UnfinishedUpload"]

_PREPARING: Final = "preparing"
_START_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.2
_ABORT_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a listing."""

    key: str
    size_bytes: int
    modify_time: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    begin_time: datetime


class Blobs(Bucket):
    """The installation's bucket, on any S3 server that honours conditional writes.

    There may be other buckets, which are only read: `find` and `locate` return them all.
    Raises SettingError when the settings of one cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(S3(settings))
        self._max_size = settings.max_media_size
        self._etag_is_md5 = False
        self._checks_crc32 = False
        self._others = {
            address: Bucket(S3(each, configured_in=f"{address} in INGOT_BUCKETS_FILE"))
            for address, each in read_bucket_settings(settings).items()
        }

    async def prepare(self, *, wait_at_most: timedelta = timedelta(seconds=30)) -> None:
        """Create the bucket if it is missing, and check what Ingot's promises need of it.

        Raises Failure STORAGE_UNAVAILABLE if its keys may not do all that Ingot does, or if it does
        not honour conditional writes. Waits up to `wait_at_most` for a server that is not ready.
        Safe in many processes at once.
        """
        loop = asyncio.get_running_loop()
        began, outage = loop.time(), Outage("Object storage")
        deadline = began + wait_at_most.total_seconds()
        while True:
            try:
                await self._s3.small.run(self._prepare)
            except Failure as failure:
                cause = failure.__cause__
                final = cause is None or (isinstance(cause, S3Error) and cause.code in ADVICE)
                if final or loop.time() >= deadline:
                    raise
                # A server that is started together with this process takes a moment.
                if loop.time() - began >= _START_SECONDS:
                    await asyncio.sleep(outage.failed(_PREPARING, failure))
                else:
                    await asyncio.sleep(_POLL_SECONDS)
            else:
                outage.succeeded(_PREPARING)
                return

    def _prepare(self) -> None:
        client = self._s3.small.client
        if not client.bucket_exists(self.bucket):
            try:
                client.make_bucket(self.bucket)
            except S3Error as exc:
                # Another process has made it meanwhile.
                if exc.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
        probe = probe_bucket(self._s3)
        require(probe.findings, reason_pb2.REASON_STORAGE_UNAVAILABLE)
        self._etag_is_md5 = probe.etag_is_md5
        self._checks_crc32 = probe.checks_crc32

    async def require_bucket(self) -> None:
        """Ask for the bucket. Raises Failure STORAGE_UNAVAILABLE if it is not there."""
        exists = partial(self._s3.small.client.bucket_exists, self.bucket)
        if not await self._s3.small.run(exists):
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The bucket {self.bucket} is gone. {ADVICE['NoSuchBucket']}",
            )

    async def close(self) -> None:
        await asyncio.gather(super().close(), *(each.close() for each in self._others.values()))

    def find(self, scheme: str, bucket: str, object_name: str) -> tuple[Bucket, str] | None:
        """Return who reads the object at `scheme://bucket/object_name`, and its key there.

        The scheme is `s3` or `gs`. Both name the installation's bucket, unless a bucket of Google's
        has the same name. What lies beside INGOT_S3_PREFIX counts as another bucket. None if it is
        not configured.
        """
        other = self._others.get(f"{scheme}://{bucket}")
        is_own = bucket == self.bucket and object_name.startswith(self._s3.prefix)
        if is_own and (other is None or scheme == "s3"):
            return self, self._s3.key(object_name)
        return (other, object_name) if other is not None else None

    def link_origins(self) -> list[str]:
        """Return the origins of all signed links, those to other buckets too: sorted, each once."""
        return sorted({each.link_origin() for each in (self, *self._others.values())})

    def locate(self, url: str) -> tuple[Bucket, str]:
        """Return the bucket and the key of a stored file, given the URL in its manifest.

        Raises Failure BUCKET_FORBIDDEN when its bucket is not configured any more.
        """
        scheme, _, rest = url.partition("://")
        name, _, object_name = rest.partition("/")
        found = self.find(scheme, name, object_name)
        if found is None:
            raise Failure(
                reason_pb2.REASON_BUCKET_FORBIDDEN,
                f"The file of the media item is in {scheme}://{name}, which is not configured any "
                "more. Configure the bucket again, or delete the media item.",
                metadata={"bucket": name},
            )
        return found

    def url(self, key: str) -> str:
        """Return the internal URL of `key`."""
        return f"s3://{self.bucket}/{self._s3.object_name(key)}"

    def key(self, url: str) -> str:
        """Return the key in an internal URL; raises ValueError for another bucket or prefix."""
        key = url.removeprefix(self.url(""))
        if key == url:
            raise ValueError(f"{url!r} is not in {self.url('')}")
        return key

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        if_none_match: bool = False,
        if_match: str = "",
        lifetime: timedelta | None = None,
    ) -> str | None:
        """Write a small object in one step; return its ETag, or None if the condition fails.

        `if_none_match` writes only if the object does not exist, `if_match` only over the version
        with this ETag. None means that it was not written and will not be. After a Failure it may
        be written, at once or later, but not if it arrives after `lifetime`, at least a second.
        """
        pool = self._s3.small if len(data) <= SMALL_BYTES else self._s3.calls
        return await pool.run(
            partial(
                put,
                self._s3,
                pool,
                key,
                data,
                content_type,
                if_none_match=if_none_match,
                if_match=if_match,
                lifetime=lifetime,
            )
        )

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """Return the content and ETag of a small object; None if it does not exist."""
        return await self._s3.small.run(partial(self._get, key))

    def _get(self, key: str) -> tuple[bytes, str] | None:
        try:
            response = self._s3.small.client.get_object(self.bucket, self._s3.object_name(key))
        except S3Error as exc:
            if exc.code == ABSENT:
                return None
            raise
        try:
            return response.read(), etag_of(response)
        finally:
            release(response)

    async def upload(
        self,
        key: str,
        content: Content,
        *,
        content_type: str,
        size_bytes: int | None,
        seen: Callable[[bytes], object] = lambda _: None,
        parts_at_once: int = PARTS_AT_ONCE,
    ) -> StoredBlob:
        """Upload `content` to its end under a new key, and close it.

        What the content raises aborts the upload and is raised here. After any exception nothing is
        left in the bucket, unless the server cannot be reached. `size_bytes` is the size that was
        announced for content that is complete, None for content that may grow; Failure TRUNCATED
        for another size. `seen` gets all bytes once, in order, in another thread.
        `parts_at_once` is 1 for content that keeps only the part that is being sent.
        """
        upload = MultipartUpload(
            self._s3,
            key,
            content,
            content_type,
            max_size=self._max_size,
            parts_at_once=parts_at_once,
            checks_crc32=self._checks_crc32,
            seen=seen,
        )
        send = partial(upload.send, announced=size_bytes, etag_is_md5=self._etag_is_md5)
        running = self._s3.uploads.submit(contextvars.copy_context().run, send)
        uploading = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(uploading)
        except asyncio.CancelledError:
            upload.aborted = True
            running.cancel()
            # This ends a read that waits; in a thread, because the reader may hold a lock.
            self._s3.calls.submit(upload.close)
            await asyncio.wait([uploading], timeout=_ABORT_SECONDS)
            upload.interrupt()
            uploading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise

    async def remove(self, key: str) -> None:
        """Remove an object, if it exists."""
        small, name = self._s3.small, self._s3.object_name(key)
        await small.run(partial(small.client.remove_object, self.bucket, name))

    async def remove_within(self, key: str, *, lifetime: timedelta) -> None:
        """Remove an object, unless the request arrives after `lifetime`, at least a second."""
        await self._s3.small.run(partial(self._s3.delete, key, lifetime=lifetime))

    async def remove_tree(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        """Remove every object whose key begins with `prefix`, except those in `keep`."""
        await self._s3.calls.run(partial(self._remove_tree, prefix, keep))

    def _remove_tree(self, prefix: str, keep: Collection[str]) -> None:
        # List to the end first: removing objects during a listing may shift its pages.
        found = self._list_objects(prefix)
        self._remove_many([each.key for each in found if each.key not in keep])

    async def remove_many(self, keys: Sequence[str]) -> None:
        """Remove objects, if they exist, in one request for each thousand."""
        await self._s3.calls.run(partial(self._remove_many, keys))

    def _remove_many(self, keys: Iterable[str]) -> None:
        objects = (DeleteObject(self._s3.object_name(key)) for key in keys)
        for error in self._s3.calls.client.remove_objects(self.bucket, objects):
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"The S3 server at {self._s3.endpoint} did not remove {error.name}: {error.code}: "
                f"{error.message}. {ADVICE.get(error.code, 'Try again.')}",
            )

    async def abort_uploads(self, prefix: str) -> None:
        """Abort unfinished multipart uploads of keys that begin with `prefix`."""
        for upload in await self.unfinished_uploads(prefix):
            await self.abort_upload(upload.key, upload.upload_id)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload, if it is unfinished."""
        await self._s3.calls.run(partial(self._abort_upload, key, upload_id))

    def _abort_upload(self, key: str, upload_id: str) -> None:
        try:
            # The SDK does not have a public method for this, nor for the listing.
            abort = self._s3.calls.client._abort_multipart_upload  # noqa: SLF001
            abort(self.bucket, self._s3.object_name(key), upload_id)
        except S3Error as exc:
            if exc.code != "NoSuchUpload":
                raise

    async def unfinished_uploads(self, prefix: str) -> list[UnfinishedUpload]:
        """Return the unfinished multipart uploads of keys that begin with `prefix`."""
        return await self._s3.calls.run(partial(self._unfinished_uploads, prefix))

    def _unfinished_uploads(self, prefix: str) -> list[UnfinishedUpload]:
        list_uploads = partial(self._s3.calls.client._list_multipart_uploads, self.bucket)  # noqa: SLF001
        found: dict[str, UnfinishedUpload] = {}
        name = self._s3.object_name(prefix)
        # MinIO lists uploads only by whole keys, or all that began since its start; it removes the
        # others itself after a day.
        for listed in {"", name}:
            marker: str | None = None
            while True:
                page: ListMultipartUploadsResult
                try:
                    page = list_uploads(prefix=listed, key_marker=marker)
                except S3Error as exc:
                    if exc.code == "AccessDenied" and listed != name:
                        break  # keys that may list only under INGOT_S3_PREFIX
                    raise
                for each in page.uploads:
                    if each.object_name.startswith(name):
                        key, upload_id = self._s3.key(each.object_name), str(each.upload_id)
                        began = each.initiated_time or datetime.now(UTC)
                        found[upload_id] = UnfinishedUpload(key, upload_id, began)
                marker = page.next_key_marker
                if not page.is_truncated or not marker:
                    break
        return list(found.values())

    async def list_folders(self, prefix: str, *, after: str, limit: int) -> list[str]:
        """Return the names of at most `limit` folders directly in `prefix`, sorted, after `after`.

        `prefix` ends with a slash, the names do not. SeaweedFS lists emptied folders for a while.
        """
        return await self._s3.calls.run(partial(self._list_folders, prefix, after, limit))

    def _list_folders(self, prefix: str, after: str, limit: int) -> list[str]:
        # "0" follows "/": after everything in the folder `after`, before the next folder.
        folder = self._s3.object_name(prefix)
        start = f"{folder}{after}0" if after else None
        found = self._s3.calls.client.list_objects(self.bucket, folder, start_after=start)
        folders = (
            each.object_name.removeprefix(folder).removesuffix("/") for each in found if each.is_dir
        )
        return list(islice((name for name in folders if name > after), limit))

    async def list_objects(self, prefix: str) -> list[StoredObject]:
        """Return all objects whose keys begin with `prefix`, sorted by key."""
        return await self._s3.calls.run(partial(self._list_objects, prefix))

    def _list_objects(self, prefix: str) -> list[StoredObject]:
        name = self._s3.object_name(prefix)
        found = self._s3.calls.client.list_objects(self.bucket, name, recursive=True)
        return [
            StoredObject(
                self._s3.key(each.object_name),
                each.size or 0,
                each.last_modified,
                (each.etag or "").strip('"'),
            )
            for each in found
            if not each.is_dir
        ]

    async def upload_url(self, key: str, *, lifetime: timedelta, size_bytes: int) -> str:
        """Return a signed link at the public endpoint for a PUT of `size_bytes` bytes.

        `lifetime` is at most 7 days. The S3 server refuses a body of another size.
        """
        return self._s3.link_for_put(key, lifetime=lifetime, size_bytes=size_bytes)
