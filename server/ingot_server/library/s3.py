"""The connection to one S3 server: the SDK, its threads, and the translation of its errors.

The SDK is synchronous, so calls run in threads, of four kinds (call_pool.py). A server, or a proxy
in front of it, may answer some requests and let others hang: those then wait for no one but their
like.

    small      manifests, tombstones, aliases, parts of the index: short time limits
    reads      blobs that are read
    calls      everything else: listings, parts of uploads
    uploads    threads only: an upload occupies one until all of its content has arrived
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import BinaryIO, Final, TypeVar
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.credentials.providers import Provider
from minio.error import MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.response import BaseHTTPResponse

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.call_pool import CallPool
from ingot_server.library.checksums import Checksum
from ingot_server.library.s3_keys import s3_keys
from ingot_server.library.signed_links import with_headers
from ingot_server.setting_values import SettingError

T = TypeVar("T")

FOREIGN: Final = (MinioException, HTTPError, OSError, ParseError)

ABSENT: Final = "NoSuchKey"

# Errors that do not go away by waiting, and what to do about them.
ADVICE: Final = {
    "AccessDenied": "Allow these keys to create the bucket, and list, read, write and delete.",
    "InvalidAccessKeyId": "Check INGOT_S3_ACCESS_KEY and INGOT_S3_SECRET_KEY.",
    "SignatureDoesNotMatch": "Check INGOT_S3_SECRET_KEY and INGOT_S3_REGION.",
    "AuthorizationHeaderMalformed": "Check INGOT_S3_REGION.",
    "RequestTimeTooSkewed": "Set the clock of this machine, or of the S3 server.",
    "NoSuchBucket": "Restore it, or restart Ingot, which creates it.",
}

# What is at most this large is small: the server has no reason to take its time.
SMALL_BYTES: Final = 256 << 10

_SMALL_THREADS: Final = 64
_READ_THREADS: Final = 64
_THREADS: Final = 32
_CONNECT_SECONDS: Final = 3.0
# Without a byte from the server. A small request is then repeated once, a larger one twice.
_SMALL_SECONDS: Final = 5.0
_READ_SECONDS: Final = 20.0
_SECONDS: Final = 60.0
_SIGNATURE_LIFETIME: Final = timedelta(minutes=15)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LONGEST_CAUSE: Final = 300


def is_bucket_name(name: str) -> bool:
    """Return whether S3 accepts `name` as the name of a bucket."""
    return _BUCKET.fullmatch(name) is not None


def folder_prefix(setting: str) -> str:
    """Return what names of objects begin with: INGOT_S3_PREFIX with one slash at its end."""
    return f"{setting.rstrip('/')}/" if setting else ""


class S3:
    """The server that the settings name.

    A key is relative to `prefix`, which is empty or ends with a slash; `object_name` and `key` are
    the only places that add it and take it away. `public` signs links for the public endpoint.
    Raises SettingError for settings that cannot be valid. `configured_in` names the place where a
    bucket is configured that is not the installation's own.
    """

    def __init__(self, settings: Settings, *, configured_in: str = "") -> None:
        if not is_bucket_name(settings.s3_bucket):
            raise SettingError(f"INGOT_S3_BUCKET={settings.s3_bucket!r} is not a bucket name.")
        self._configured_in = configured_in
        self.bucket = settings.s3_bucket
        self.prefix = folder_prefix(settings.s3_prefix)
        self.endpoint = settings.s3_endpoint
        tls = _tls_context(settings)
        self._keys = s3_keys(settings, tls)
        connect = partial(
            self._connect, settings, settings.s3_endpoint, "INGOT_S3_ENDPOINT", self._keys
        )
        self.small = CallPool(
            "s3-small",
            connect,
            self.guarded,
            threads=_SMALL_THREADS,
            connections=_SMALL_THREADS,
            connect_seconds=_CONNECT_SECONDS,
            read_seconds=_SMALL_SECONDS,
            repetitions=1,
            tls=tls,
        )
        self.reads = CallPool(
            "s3-read",
            connect,
            self.guarded,
            threads=_READ_THREADS,
            # A download has a connection all the time, but a thread only while it reads.
            connections=4 * _READ_THREADS,
            connect_seconds=_CONNECT_SECONDS,
            read_seconds=_READ_SECONDS,
            repetitions=2,
            tls=tls,
        )
        self.calls = CallPool(
            "s3",
            connect,
            self.guarded,
            threads=_THREADS,
            connections=_THREADS + settings.worker_slots,
            connect_seconds=_CONNECT_SECONDS,
            read_seconds=_SECONDS,
            repetitions=2,
            tls=tls,
        )
        self.uploads = ThreadPoolExecutor(max(settings.worker_slots, 1), "s3-upload")
        public = settings.s3_public_endpoint or settings.s3_endpoint
        self.public = self._connect(
            settings, public, "INGOT_S3_PUBLIC_ENDPOINT", self._keys, self.calls.connections
        )

    def _connect(
        self,
        settings: Settings,
        endpoint: str,
        name: str,
        keys: Provider | None,
        connections: urllib3.PoolManager,
    ) -> Minio:
        scheme, found, host = endpoint.rpartition("://")
        try:
            return Minio(
                host.rstrip("/"),
                credentials=keys,
                secure=scheme == "https" if found else settings.s3_secure,
                region=settings.s3_region,
                http_client=connections,
            )
        except ValueError as exc:
            where = f"{self._configured_in}: " if self._configured_in else ""
            raise SettingError(f"{where}{name}={endpoint!r} is not HOST:PORT: {exc}.") from exc

    def object_name(self, key: str) -> str:
        """Return the name in the bucket of the object with this key, or of a folder."""
        return self.prefix + key

    def key(self, object_name: str) -> str:
        """Return the key of an object that a listing under the prefix has returned."""
        return object_name.removeprefix(self.prefix)

    def guarded(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, in this thread, with foreign exceptions translated."""
        try:
            return work()
        except FOREIGN as exc:
            raise Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"Object storage at {self.endpoint} {_explained(exc, self._configured_in)}",
            ) from exc

    def put(
        self,
        pool: CallPool,
        key: str,
        data: bytes | BinaryIO,
        checksum: Checksum,
        *,
        size: int,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        lifetime: timedelta | None = None,
    ) -> BaseHTTPResponse:
        """Send a PUT that the server refuses unless `data`, `size` bytes, have this checksum.

        It also refuses one whose head arrives after `lifetime`, at least a second, or after 15
        minutes if none is given.

        It is for headers that the SDK does not support, such as conditions: a signed URL takes any.
        SeaweedFS checks these checksums, but not the SHA-256 that the SDK signs; MinIO checks all.
        """
        signed = checksum.header
        url = self._put_url(pool.client, key, lifetime or _SIGNATURE_LIFETIME, signed, query)
        sent = {**headers, "Content-Length": str(size), **signed}
        return pool.connections.request("PUT", url, body=data, headers=sent)

    def delete(self, key: str, *, lifetime: timedelta) -> None:
        """Remove an object, unless the request arrives after `lifetime`, at least a second."""
        name = self.object_name(key)
        url = self.small.client.get_presigned_url("DELETE", self.bucket, name, lifetime)
        response = self.small.connections.request("DELETE", url)
        if response.status not in (200, 204):
            raise error_of(response)

    def link_for_put(self, key: str, *, lifetime: timedelta, size_bytes: int) -> str:
        """Return a signed link at the public endpoint for a PUT of `size_bytes` bytes."""
        return self._put_url(self.public, key, lifetime, {"Content-Length": str(size_bytes)})

    def _put_url(
        self,
        client: Minio,
        key: str,
        lifetime: timedelta,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
    ) -> str:
        """Return a link that covers `headers`, unless the server has no keys and checks nothing."""
        url = str(
            client.get_presigned_url(
                "PUT",
                self.bucket,
                self.object_name(key),
                lifetime,
                extra_query_params={**(query or {})},
            )
        )
        return url if self._keys is None else with_headers(url, self._keys.retrieve(), headers)

    async def close(self) -> None:
        """Wait up to a second for running calls, then end them and close all connections."""
        pools = (self.small, self.reads, self.calls)
        uploads = partial(self.uploads.shutdown, wait=True, cancel_futures=True)
        ending = [asyncio.create_task(asyncio.to_thread(uploads))]
        ending += [asyncio.create_task(asyncio.to_thread(pool.shut_down)) for pool in pools]
        await asyncio.wait(ending, timeout=1)
        for pool in pools:
            pool.interrupt()
            pool.connections.clear()


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return a context with the authority and the certificate of the settings; None without them.

    The authority is trusted in addition to the system's.
    """
    ca_file = settings.s3_ca_file
    certificate = settings.s3_certificate_file
    if not ca_file and not certificate:
        return None
    context = ssl.create_default_context()
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
    except OSError as exc:
        raise SettingError(
            f"INGOT_S3_CA_FILE={ca_file!r} cannot be used: {exc}. Name a PEM file."
        ) from exc
    try:
        if certificate:
            context.load_cert_chain(certificate, settings.s3_certificate_key_file or None)
    except OSError as exc:
        raise SettingError(
            f"INGOT_S3_CERTIFICATE_FILE={certificate!r} cannot be used: {exc}. Name PEM files with "
            "a certificate and its key."
        ) from exc
    return context


def error_of(response: BaseHTTPResponse) -> MinioException:
    """Return the exception that the SDK would raise for this response."""
    try:
        return S3Error.fromxml(response)
    except (ParseError, UnicodeDecodeError):
        return ServerError(f"HTTP status {response.status}", response.status)


def etag_of(response: BaseHTTPResponse) -> str:
    """Return the ETag without its quotes, as the SDK does."""
    return response.headers.get("etag", "").replace('"', "")


def _explained(exc: BaseException, configured_in: str) -> str:
    if isinstance(exc, S3Error):
        code = exc.code or "an error"
        advice = ADVICE.get(code, "")
        if advice and configured_in:
            advice = f"Check {configured_in}, and that its keys may read the bucket."
        return f"returned {code}: {exc.message or 'no message'}. {advice}".rstrip()
    if isinstance(exc, ServerError):
        return f"returned HTTP status {exc.status_code}. See its log."
    # Not the retry error itself: its text contains the signed URL.
    cause = str(exc.reason if isinstance(exc, MaxRetryError) and exc.reason else exc)
    cause = re.sub(r"^\w+\(host=.*?\): ", "", cause)  # the name of a class
    if isinstance(exc, MinioException | ParseError):
        return (
            f"does not respond as S3 does ({cause[:_LONGEST_CAUSE]}). "
            f"Check {configured_in or 'INGOT_S3_ENDPOINT'}."
        )
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        if "ostname mismatch" in cause or "IP address mismatch" in cause:
            return "has a certificate for another host. Use a host name that the certificate has."
        return (
            "has a certificate that is not signed by an authority that this machine trusts, or "
            "that has expired. For an authority of your own, name its PEM file: INGOT_S3_CA_FILE."
        )
    setting = configured_in or "INGOT_S3_ENDPOINT and INGOT_S3_SECURE"
    return f"cannot be reached ({cause[:_LONGEST_CAUSE]}). Check that it runs, and {setting}."
