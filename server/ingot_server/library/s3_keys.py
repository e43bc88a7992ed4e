"""Where the keys for S3 come from: settings, or a service that gives keys for a limited time.

Temporary keys are renewed in the second half of their lifetime, by a thread of their own, so that
no request waits for it and a signed link has about half of it left. A service that is away for a
while does no harm. Only when keys have expired does a request wait for others.

    keys            INGOT_S3_ACCESS_KEY and INGOT_S3_SECRET_KEY
    role            the role of the machine or container: from the service that the variables
                    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (ECS) and _FULL_URI (EKS Pod Identity)
                    name, which ECS and EKS set, else from the instance metadata service of EC2
    web-identity    a role for the token in a file, such as that of a Kubernetes service account
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import ParseError

import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import (
    IamAwsProvider,
    Provider,
    StaticProvider,
    WebIdentityProvider,
)
from urllib3.exceptions import HTTPError

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.setting_values import SettingError

logger = EventLogger(__name__)

_CONNECT_SECONDS: Final = 3.0
_READ_SECONDS: Final = 10.0
_SESSION: Final = "ingot"
# A request that is signed now has to arrive before its keys expire.
_MARGIN: Final = timedelta(seconds=10)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
# Between two attempts to renew keys.
_PAUSE: Final = timedelta(seconds=10)
# With the errors of the SDK, which are ValueError and KeyError for responses that it cannot use.
_FOREIGN: Final = (HTTPError, OSError, ParseError, ValueError, KeyError)


def s3_keys(settings: Settings, tls: ssl.SSLContext | None) -> Provider | None:
    """Return what gives the keys of the settings; None if there are none. Raises SettingError."""
    match settings.s3_credentials:
        case "keys":
            if not settings.s3_access_key:
                return None
            if not settings.s3_secret_key:
                raise SettingError(
                    "INGOT_S3_ACCESS_KEY is set, and INGOT_S3_SECRET_KEY is not. Set both."
                )
            return StaticProvider(settings.s3_access_key, settings.s3_secret_key)
        case "role":
            url = settings.s3_credentials_url or None
            client = _client(tls)
            # A new provider each time: it reads the variables and the token's file when it is made.
            return RenewedKeys(
                lambda: IamAwsProvider(custom_endpoint=url, http_client=client).retrieve(),
                url or "the service of the role",
            )
        case _:
            return RenewedKeys(_web_identity(settings, _client(tls)), _sts(settings))


def _web_identity(settings: Settings, client: urllib3.PoolManager) -> Callable[[], Credentials]:
    if not settings.s3_web_identity_token_file:
        raise SettingError(
            "INGOT_S3_CREDENTIALS=web-identity needs INGOT_S3_WEB_IDENTITY_TOKEN_FILE, and on AWS "
            "INGOT_S3_ROLE_ARN. Set them."
        )
    # Whoever runs the container writes the file again before the token expires.
    file = Path(settings.s3_web_identity_token_file)
    return lambda: WebIdentityProvider(
        jwt_provider_func=lambda: {"access_token": file.read_text().strip()},
        sts_endpoint=_sts(settings),
        role_arn=settings.s3_role_arn or None,
        role_session_name=_SESSION,
        http_client=client,
    ).retrieve()


def _sts(settings: Settings) -> str:
    return settings.s3_credentials_url or f"https://sts.{settings.s3_region}.amazonaws.com"


def _client(tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        ssl_context=tls,
        timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        retries=urllib3.Retry(2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )


class RenewedKeys(Provider):
    """Keys that `fetch` gets from `service`. All its methods may run in any thread."""

    def __init__(
        self,
        fetch: Callable[[], Credentials],
        service: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fetch = fetch
        self._service = service
        self._now = now
        self._fetching = threading.Lock()
        self._keys: Credentials | None = None
        self._renew_at = self._end = datetime.min.replace(tzinfo=UTC)

    def retrieve(self) -> Credentials:
        """Return keys that have not expired. Raises Failure STORAGE_UNAVAILABLE."""
        keys, now = self._keys, self._now()
        if keys is None or now >= self._end:
            return self._wait_for_keys()
        if now >= self._renew_at and self._fetching.acquire(blocking=False):
            threading.Thread(target=self._renew, name="s3-keys", daemon=True).start()
        return keys

    def _wait_for_keys(self) -> Credentials:
        with self._fetching:
            if self._keys is None or self._now() >= self._end:
                return self._take(self._fetched())
            return self._keys

    def _renew(self) -> None:
        """Fetch keys, in a thread that has taken `_fetching`."""
        try:
            self._take(self._fetched())
        except Failure as failure:
            logger.warning(
                Event.S3_KEYS_NOT_RENEWED,
                "%s The keys that are known are used until they expire.",
                failure,
            )
            # Not again for each request.
            self._renew_at = self._now() + _PAUSE
        finally:
            self._fetching.release()

    def _take(self, keys: Credentials) -> Credentials:
        now = self._now()
        # The SDK's times are in UTC, without saying so.
        end = keys.expiration.replace(tzinfo=UTC) if keys.expiration else _NEVER
        self._end = end - _MARGIN
        self._renew_at = now + (self._end - now) / 2
        self._keys = keys
        return keys

    def _fetched(self) -> Credentials:
        try:
            return self._fetch()
        except _FOREIGN as error:
            # The texts of the SDK and of urllib3 contain the URL, with the token of the identity.
            failure = Failure(
                reason_pb2.REASON_STORAGE_UNAVAILABLE,
                f"No keys for S3 come from {self._service} ({_cause(error)}). Check that it runs, "
                "INGOT_S3_CREDENTIALS_URL, and the role.",
            )
        raise failure


def _cause(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError | ParseError | KeyError):
        return "its response is not one of this service"
    if isinstance(error, ValueError):
        status = str(error).rpartition("HTTP status code ")[2]
        return f"HTTP status {status}" if status.isdecimal() else "its response is not valid"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return type(getattr(error, "reason", None) or error).__name__
