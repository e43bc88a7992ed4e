"""The public keys that sign JWTs: a JWK Set (RFC 7517), fetched from INGOT_JWKS_URL.

The operator names the URL, as those of Redis and S3. So it is fetched directly, and may have a
private address: the guard is for what callers and sources name, and INGOT_EGRESS_ALLOW would let
the webhooks of callers reach the identity provider, too. Redirects are not followed.

One task fetches the set, from time to time, and when a token names a key that is not in it. A token
with a known key never waits. While the set cannot be fetched, the keys of the last one stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from yarl import URL

from ingot_server.api.hosts import is_loopback
from ingot_server.config import Settings
from ingot_server.egress.tls import tls_context
from ingot_server.foreign_json import parse_json
from ingot_server.outage import Outage
from ingot_server.setting_values import SettingError

ALGORITHMS: Final[Mapping[str, frozenset[str]]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
"""What may sign a token, by the type of the key (RFC 7518, section 3.1; RFC 8037).

All are asymmetric: with others, whoever can check a token can make one.
"""

_SET_BYTES: Final = 1 << 20
_PRIVATE: Final = "d"


@dataclass(frozen=True, slots=True)
class Intervals:
    """When the set is fetched, in seconds."""

    refresh: float = 300.0
    """After it was fetched: a key that the provider has withdrawn is accepted for so long."""
    retry: float = 30.0
    """After it could not be fetched, while there are keys of an earlier set."""
    unknown_key: float = 30.0
    """The shortest time between two fetches because of keys that are not in the set."""


DEFAULT_INTERVALS: Final = Intervals()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that it may be used with."""

    key: Any
    algorithms: frozenset[str]


class SigningKeys:
    """The keys of the settings, which name a URL. None are there before `keep_current` runs.

    Raises SettingError if the URL cannot be used.
    """

    def __init__(self, settings: Settings, intervals: Intervals = DEFAULT_INTERVALS) -> None:
        self._url = _checked(settings.jwks_url)
        self._tls = tls_context(settings.egress_ca_file)
        self._intervals = intervals
        self._keys: Mapping[str, SigningKey] = {}
        self._fetched = False
        self._outage = Outage(f"{self._url.origin()} (INGOT_JWKS_URL)")
        self._asked = asyncio.Event()
        self._next_question = float("-inf")
        # Set at the end of the fetch that runs or comes next.
        self._ended = asyncio.Event()
        self._running = True
        self.version = 0
        """Changes whenever the keys may have changed."""

    @property
    def fetched(self) -> bool:
        """Whether there has been a set."""
        return self._fetched

    async def find(self, key_id: str | None) -> SigningKey | None:
        """Return the key that a token names by `kid`; None if there is no such key.

        A token may leave `kid` out if there is only one key. A key that is not known is looked for
        in a new set, if none was fetched for that reason a short while ago.
        """
        if key_id is None:
            if self._running and not self._fetched:
                await self._ended.wait()
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        if (known := self._keys.get(key_id)) is not None:
            return known
        if not (self._running or self._asked.is_set()):
            now = time.monotonic()
            if now < self._next_question:
                return None
            self._next_question = now + self._intervals.unknown_key
            self._asked.set()
        await self._ended.wait()
        return self._keys.get(key_id)

    async def keep_current(self) -> None:
        """Fetch the set again and again. Never ends.

        That it cannot be fetched is in the log when it begins and when it ends.
        """
        while True:
            self._running = True
            pause = await self._fetch()
            self._running = False
            self._ended.set()
            self._ended = asyncio.Event()
            try:
                async with asyncio.timeout(pause):
                    await self._asked.wait()
            except TimeoutError:
                continue
            finally:
                self._asked.clear()

    async def _fetch(self) -> float:
        """Fetch the set once. Return the seconds after which to fetch it again."""
        try:
            self._keys = _keys(await self._document())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            pause = self._outage.failed("fetch", str(error) or type(error).__name__)
            return self._intervals.retry if self._fetched else pause
        self._fetched = True
        self.version += 1
        self._outage.succeeded("fetch")
        return self._intervals.refresh

    async def _document(self) -> bytes:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls),
                timeout=aiohttp.ClientTimeout(total=10.0),
            ) as http,
            http.get(self._url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"it responded with the status {response.status}, not 200")
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > _SET_BYTES:
                    raise ValueError(f"it sent more than {_SET_BYTES} bytes")
            return bytes(body)


def _checked(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    host = url.host or ""
    encrypted = url.scheme == "https" or (url.scheme == "http" and is_loopback(host))
    if not host or not encrypted or url.user or url.password:
        raise SettingError(
            "INGOT_JWKS_URL is not an https URL without user info, such as "
            "`https://login.example.com/.well-known/jwks.json`. It may begin with http only on "
            "this machine, because whoever changes the response decides who may call."
        )
    return url


def _keys(document: bytes) -> dict[str, SigningKey]:
    """Return the keys of a set by their ids. Raises ValueError if it is no set.

    Keys that cannot sign a token are left out (RFC 7517, section 5).
    """
    content = parse_json(document)
    match content:
        case {"keys": list(listed)}:
            return {
                str(each.get("kid", "")): key
                for each in listed
                if isinstance(each, dict) and (key := _key(each)) is not None
            }
        case _:
            raise ValueError("it sent something that is not a JWK Set")


def _key(data: dict[str, Any]) -> SigningKey | None:
    kind = data.get("kty")
    possible = ALGORITHMS.get(kind) if isinstance(kind, str) else None
    # A key whose private part is public proves nothing.
    if possible is None or data.get("use", "sig") != "sig" or _PRIVATE in data:
        return None
    try:
        read = PyJWK(data)
    except (PyJWTError, ValueError, TypeError, AttributeError):
        return None
    # With elliptic curves, the curve decides about the algorithm.
    algorithm = data.get("alg") or ("" if kind == "RSA" else read.algorithm_name)
    algorithms = possible & {algorithm} if algorithm else possible
    return SigningKey(read.key, algorithms) if algorithms else None
