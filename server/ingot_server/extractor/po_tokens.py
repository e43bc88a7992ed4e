"""PO tokens for YouTube: a provider for yt-dlp, and when it is used.

    resolve -> YouTube keeps formats back from who has no token?
            -> once more, with tokens -> that fails: the first result

So tokens cost only what needs them, and cannot fail an extraction that works without them. They are
bound to the visitor that YouTube takes this extraction for, so none is kept for another one.

    att/get       -> the challenge: a script, and a program for it
    the script    -> from www.google.com
    attestation.py   runs both in Deno
    GenerateIT    -> the integrity token, of which tokens are minted

All requests are yt-dlp's own, so they go through the guard, and like its others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import yt_dlp.networking
import yt_dlp.networking.exceptions

from ingot_server.extractor.attestation import Attestation, AttestationError
from ingot_server.extractor.formats import Wanted
from ingot_server.extractor.shortfall import Announced, lacks_po_token

# Of YouTube's web player, the same for everyone.
_REQUEST_KEY: Final = "O43z0dpjhgX20SCx4KAo"
_API_KEY: Final = "AIzaSyDyT5W0Jh49F30Pqqtyfdf7pDLFKLJoAnw"
_CHALLENGE: Final = "https://www.youtube.com/youtubei/v1/att/get?prettyPrint=false"
_INTEGRITY: Final = "https://www.youtube.com/api/jnn/v1/GenerateIT"
_LARGEST_RESPONSE: Final = 4 << 20
_REQUEST_SECONDS: Final = 10.0


class PoTokens:
    """The PO tokens of one extraction."""

    def __init__(self, deno: str, *, enabled: bool) -> None:
        """`deno` is the program; unless `enabled`, there are none."""
        self.offered = False
        """Whether yt-dlp gets tokens now."""
        self.minted = 0
        self.failure = ""
        """Why there are none; empty if nothing failed."""
        self._deno = deno
        self._enabled = enabled
        self._attestation: Attestation | None = None

    def extract(
        self, ydl: Any, wanted: Wanted, extract: Callable[[], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Return what `extract` does; if YouTube kept something back, what it does with tokens."""
        first: dict[str, Any] | None = None
        failure: Exception | None = None
        try:
            first = extract()
        except Exception as error:
            failure = error
        if not self._enabled or not lacks_po_token(ydl.announced, first, wanted):
            return _result(first, failure)
        announced, last_failure = ydl.announced, ydl.failure
        ydl.announced, self.offered = Announced(), True
        try:
            second = extract()
        except MemoryError:
            raise
        except Exception as error:
            self.failure = self.failure or str(error)
            second = None
        finally:
            self.close()
        if second is not None and self.minted:
            return second
        self.minted, ydl.announced, ydl.failure = 0, announced, last_failure
        return _result(first, failure)

    def mint(self, binding: str, attest: Callable[[Attestation], None]) -> str:
        """Return a token. `attest` does the attestation, once. Raises AttestationError."""
        if self.failure:
            raise AttestationError(self.failure)
        try:
            if self._attestation is None:
                self._attestation = Attestation(self._deno)
                attest(self._attestation)
            token = self._attestation.mint(binding)
        except (AttestationError, yt_dlp.networking.exceptions.RequestError, OSError) as error:
            self.failure = str(error)[:300]
            self.close()
            raise AttestationError(self.failure) from error
        self.minted += 1
        return token

    def close(self) -> None:
        """End the attestation, which holds much memory. yt-dlp asks for no tokens afterwards."""
        self.offered = False
        if self._attestation is not None:
            self._attestation.close()
            self._attestation = None


def _result(found: dict[str, Any] | None, failure: Exception | None) -> dict[str, Any] | None:
    if failure is not None:
        raise failure
    return found


def register_provider() -> None:
    """Offer tokens to yt-dlp, after all providers of plug-ins.

    Raises ImportError or AttributeError if another version of yt-dlp has no such interface.
    """
    from yt_dlp.extractor.youtube.pot import provider
    from yt_dlp.extractor.youtube.pot.utils import WEBPO_CLIENTS, get_webpo_content_binding

    class IngotPTP(provider.PoTokenProvider):  # type: ignore[misc] # untyped
        PROVIDER_NAME = "ingot"
        BUG_REPORT_LOCATION = "https://github.com/ingot-media/ingot/issues"
        _SUPPORTED_CLIENTS = WEBPO_CLIENTS
        _SUPPORTED_CONTEXTS = tuple(provider.PoTokenContext)
        _SUPPORTED_EXTERNAL_REQUEST_FEATURES = None  # yt-dlp makes all requests

        def is_available(self) -> bool:
            return bool(self._tokens.offered)

        def _real_request_pot(self, request: Any) -> Any:
            binding, _ = get_webpo_content_binding(request)
            if not binding:
                raise provider.PoTokenProviderRejectedRequest("There is nothing to bind it to")
            try:
                token = self._tokens.mint(binding, lambda run: self._attest(run, request))
            except AttestationError as error:
                raise provider.PoTokenProviderError(str(error), expected=True) from error
            return provider.PoTokenResponse(token)

        @property
        def _tokens(self) -> PoTokens:
            tokens: PoTokens = self.ie._downloader.po_tokens  # noqa: SLF001 - as all providers do
            return tokens

        def _attest(self, run: Attestation, request: Any) -> None:
            agent = self.ie.get_param("http_headers")["User-Agent"]
            context = {**request.innertube_context}
            asked = {"context": context, "engagementType": "ENGAGEMENT_TYPE_UNBOUND"}
            visitor = {"X-Goog-Visitor-Id": request.visitor_data} if request.visitor_data else {}
            headers = {"Content-Type": "application/json", **visitor}
            try:
                challenge = json.loads(self._get(request, _CHALLENGE, asked, headers))[
                    "bgChallenge"
                ]
                [url] = challenge["interpreterUrl"].values()
                response = run.respond(
                    interpreter=self._get(request, f"https:{url}").decode(),
                    program=challenge["program"],
                    global_name=challenge["globalName"],
                    user_agent=agent,
                )
                headers = {
                    "Content-Type": "application/json+protobuf",
                    "X-Goog-Api-Key": _API_KEY,
                    "X-User-Agent": "grpc-web-javascript/0.1",
                }
                answer = self._get(request, _INTEGRITY, [_REQUEST_KEY, response], headers)
                run.accept(str(json.loads(answer)[0] or ""))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise AttestationError(f"YouTube attests in another way now: {error!r}") from error

        def _get(
            self, request: Any, url: str, body: Any = None, headers: dict[str, str] | None = None
        ) -> bytes:
            data = None if body is None else json.dumps(body).encode()
            asked = yt_dlp.networking.Request(
                url, data=data, headers=headers, extensions={"timeout": _REQUEST_SECONDS}
            )
            found = self._request_webpage(asked, pot_request=request, note=False)
            content: bytes = found.read(_LARGEST_RESPONSE)
            return content

    provider.register_provider(IngotPTP)
    provider.register_preference(IngotPTP)(lambda *_: -100)
