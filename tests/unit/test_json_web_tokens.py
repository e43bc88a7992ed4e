"""JWTs: which are accepted, and how the keys that sign them are kept."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from google.rpc.error_details_pb2 import RetryInfo

from ingot.v1.scope_pb2 import Scope
from ingot_server.access_tokens import SCOPES, entry, new_token
from ingot_server.api.authentication import Authentication
from ingot_server.api.json_web_tokens import JsonWebTokens, VerifiedToken
from ingot_server.api.signing_keys import Intervals
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.doctor.examination import check_settings
from ingot_server.errors import Failure, reason_name
from ingot_server.setting_values import SettingError
from tests.identity_provider import IdentityProvider, identity_provider, published, rsa_key, token
from tests.waiting import until

PEER = "ipv4:127.0.0.1:40000"
HOUR = 3600
CURVE_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa_key()
PLAIN: dict[str, Any] = {
    "jwks_url": "https://login.example.com/keys",
    "jwt_issuer": "a",
    "jwt_audience": "b",
}
SELDOM = Intervals(refresh=HOUR, retry=HOUR, unknown_key=HOUR)


@asynccontextmanager
async def checking(
    provider: IdentityProvider, intervals: Intervals = SELDOM, **settings: Any
) -> AsyncIterator[JsonWebTokens]:
    """What checks the tokens of a provider."""
    tokens = JsonWebTokens(Settings(**{**provider.settings, **settings}), intervals)
    following = asyncio.create_task(tokens.keep_current())
    yield tokens
    await cancel_and_wait(following)


async def verified(given: str, **settings: Any) -> VerifiedToken:
    """What a token says to a server that knows one key, `first`."""
    async with (
        identity_provider(published(CURVE_KEY, "first")) as provider,
        checking(provider, **settings) as tokens,
    ):
        return await tokens.verify(given)


async def refusal(tokens: JsonWebTokens, given: str) -> tuple[str, str]:
    with pytest.raises(Failure) as raised:
        await tokens.verify(given)
    assert given not in raised.value.message
    return reason_name(raised.value.reason), raised.value.message


def unsigned(header: dict[str, Any], given: str) -> str:
    """The token with another header, and with an empty signature."""
    return f"{encoded(json.dumps(header).encode())}.{given.split('.')[1]}."


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


async def test_a_token_says_who_calls_and_what_the_caller_may_do() -> None:
    expires = int(time.time()) + HOUR
    found = await verified(token(CURVE_KEY, exp=expires))

    assert found.name == "recorder"
    assert found.scopes == {Scope.SCOPE_READ, Scope.SCOPE_INGEST}
    assert expires <= found.expires <= expires + 60


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((RSA_KEY, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (CURVE_KEY, "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
async def test_every_asymmetric_algorithm_is_accepted(key: Any, algorithm: str) -> None:
    async with (
        identity_provider(published(key, "first")) as provider,
        checking(provider) as tokens,
    ):
        assert (await tokens.verify(token(key, algorithm))).name == "recorder"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://login.example.com"}, "TOKEN_INVALID"),
        ({"iss": None}, "TOKEN_INVALID"),
        ({"aud": "another"}, "TOKEN_INVALID"),
        ({"aud": None}, "TOKEN_INVALID"),
        ({"sub": None}, "TOKEN_INVALID"),
        ({"sub": ""}, "TOKEN_INVALID"),
        ({"exp": None}, "TOKEN_INVALID"),
        ({"exp": "never"}, "TOKEN_INVALID"),
        ({"exp": int(time.time()) - HOUR}, "TOKEN_EXPIRED"),
        ({"nbf": int(time.time()) + HOUR}, "TOKEN_INVALID"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(claims: dict[str, Any], reason: str) -> None:
    async with (
        identity_provider(published(CURVE_KEY, "first")) as provider,
        checking(provider) as tokens,
    ):
        assert (await refusal(tokens, token(CURVE_KEY, **claims)))[0] == reason


async def test_clocks_may_differ_a_little() -> None:
    now = int(time.time())

    assert await verified(token(CURVE_KEY, exp=now - 5, nbf=now + 5))


async def test_the_audience_may_be_one_of_several() -> None:
    assert await verified(token(CURVE_KEY, aud=["another", "ingot"]))


@pytest.mark.parametrize(
    ("claims", "settings", "scopes"),
    [
        ({"scope": "read  delete profile"}, {}, {"read", "delete"}),
        ({"scope": ["read", 1, None, "admin"]}, {}, {"read", "admin"}),
        ({"scope": None}, {}, set()),
        ({"scope": {"read": True}}, {}, set()),
        ({"roles": ["write"]}, {"jwt_scopes_claim": "roles"}, {"write"}),
        ({"scope": "ingot:read write"}, {"jwt_scopes_prefix": "ingot:"}, {"read"}),
    ],
)
async def test_scopes_are_read_from_the_claim_that_the_settings_name(
    claims: dict[str, Any], settings: dict[str, Any], scopes: set[str]
) -> None:
    found = await verified(token(CURVE_KEY, **claims), **settings)

    assert found.scopes == {SCOPES[name] for name in scopes}


async def test_a_subject_that_cannot_be_a_name_is_hashed() -> None:
    subject = "auth0|5f7c8ec7c33c6c004bbafe82"

    name = (await verified(token(CURVE_KEY, sub=subject))).name

    assert name == hashlib.sha256(subject.encode()).hexdigest()[:32]


async def test_the_header_chooses_neither_the_algorithm_nor_a_key_of_its_own() -> None:
    right = token(RSA_KEY, "RS256")
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    symmetric = unsigned({"alg": "HS256", "kid": "first"}, right).rpartition(".")[0]
    mac = hmac.digest(public, symmetric.encode(), "sha256")
    own = published(rsa_key(), "first")
    async with (
        identity_provider(published(RSA_KEY, "first"), published(CURVE_KEY, "second")) as provider,
        checking(provider) as tokens,
    ):
        assert await tokens.verify(right)
        for wrong in (
            f"{symmetric}.{encoded(mac)}",
            *(unsigned({"alg": name, "kid": "first"}, right) for name in ("none", "None", "")),
            unsigned({"kid": "first"}, right),
            unsigned({"alg": "RS256", "kid": "first", "jwk": own}, right),
            unsigned({"alg": "RS256", "kid": "first", "crit": ["exp"]}, right),
            unsigned({"alg": "RS256", "kid": ["first"]}, right),
            token(rsa_key(), "RS256"),
            token(CURVE_KEY),
            token(RSA_KEY, "RS256", "second"),
            right[:-4],
            "a.b.c",
            f"{encoded(b'[' * 6000)}.e30.",
            f"{encoded(b'{}')}.e30.",
        ):
            assert (await refusal(tokens, wrong))[0] == "TOKEN_INVALID", wrong


@pytest.mark.parametrize(
    "unusable",
    [
        published(RSA_KEY, "first", use="enc"),
        published(RSA_KEY, "first", alg="RS512"),
        published(RSA_KEY, "first", alg="HS256"),
        published(RSA_KEY, "first", d="AQAB"),
        published(RSA_KEY, "first", n=7),
        published(rsa.generate_private_key(public_exponent=65537, key_size=1024), "first"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "first"},
        {"kty": ["RSA"], "kid": "first"},
        {},
    ],
)
async def test_a_key_that_cannot_sign_tokens_does_not_count(unusable: dict[str, Any]) -> None:
    async with (
        identity_provider(unusable, published(CURVE_KEY, "second")) as provider,
        checking(provider) as tokens,
    ):
        assert (await refusal(tokens, token(RSA_KEY, "RS256")))[0] == "TOKEN_INVALID"
        assert await tokens.verify(token(CURVE_KEY, key_id="second"))


async def test_a_token_without_the_id_of_its_key_needs_a_provider_with_one_key() -> None:
    given = token(CURVE_KEY, key_id=None)
    for others in ((), (published(RSA_KEY, "second"),)):
        async with (
            identity_provider(published(CURVE_KEY, None), *others) as provider,
            checking(provider) as tokens,
        ):
            if others:
                assert "does not name its key" in (await refusal(tokens, given))[1]
            else:
                assert await tokens.verify(given)


async def test_a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_ends() -> None:
    old, new = token(CURVE_KEY), token(RSA_KEY, "RS256", "second")
    async with (
        identity_provider(published(CURVE_KEY, "first")) as provider,
        checking(provider) as tokens,
    ):
        assert await tokens.verify(old)
        provider.keys = [published(RSA_KEY, "second")]

        found = await asyncio.gather(*(tokens.verify(new) for _ in range(20)))

        assert {each.name for each in found} == {"recorder"}
        assert provider.asked == 2
        assert (await refusal(tokens, old))[0] == "TOKEN_INVALID"


async def test_keys_that_nobody_has_are_asked_for_once_in_a_while() -> None:
    async with (
        identity_provider(published(CURVE_KEY, "first")) as provider,
        checking(provider) as tokens,
    ):
        assert await tokens.verify(token(CURVE_KEY))
        for number in range(20):
            assert (await refusal(tokens, token(RSA_KEY, "RS256", f"unknown-{number}")))[
                0
            ] == "TOKEN_INVALID"
        assert provider.asked == 2

    async with checking_again(Intervals(refresh=HOUR, unknown_key=0)) as (provider, tokens):
        for number in range(3):
            await refusal(tokens, token(RSA_KEY, "RS256", f"unknown-{number}"))
        assert provider.asked == 4


@asynccontextmanager
async def checking_again(
    intervals: Intervals,
) -> AsyncIterator[tuple[IdentityProvider, JsonWebTokens]]:
    async with (
        identity_provider(published(CURVE_KEY, "first")) as provider,
        checking(provider, intervals) as tokens,
    ):
        assert await tokens.verify(token(CURVE_KEY))
        yield provider, tokens


async def test_a_provider_that_is_down_keeps_its_keys_and_is_in_the_log_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    intervals = Intervals(refresh=0.01, retry=0.01)
    async with checking_again(intervals) as (provider, tokens):
        for status in (500, 404, 302):
            provider.status = status
            provider.asked = 0
            await until(lambda: provider.asked > 2)
            assert await tokens.verify(token(CURVE_KEY, sub=f"caller-{status}"))
        provider.status = 200
        await until(lambda: "can be used again" in caplog.text)

    lines = [each.message for each in caplog.records if "INGOT_JWKS_URL" in each.message]
    assert len(lines) == 2
    assert "cannot be used, Ingot waits for it: it responded with the status 500" in lines[0]


@pytest.mark.parametrize("key_id", ["first", None])
async def test_without_any_keys_a_token_may_be_sent_again_later(key_id: str | None) -> None:
    async with identity_provider() as provider:
        provider.status = 503
        async with checking(provider) as tokens:
            for _ in range(3):
                with pytest.raises(Failure) as raised:
                    await tokens.verify(token(CURVE_KEY, key_id=key_id))
                assert reason_name(raised.value.reason) == "SIGNING_KEYS_UNAVAILABLE"
                details = raised.value.status().details
                assert any(each.Is(RetryInfo.DESCRIPTOR) for each in details)
            provider.status = 200
            provider.keys = [published(CURVE_KEY, "first")]
            await until(lambda: tokens._keys.fetched)
            assert await tokens.verify(token(CURVE_KEY))


async def test_a_token_that_was_checked_before_still_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = token(CURVE_KEY, exp=int(time.time()) + 60)
    async with (
        identity_provider(published(CURVE_KEY, "first")) as provider,
        checking(provider) as tokens,
    ):
        assert await tokens.verify(given)
        now = time.time() + HOUR
        monkeypatch.setattr(time, "time", lambda: now)
        assert (await refusal(tokens, given))[0] == "TOKEN_EXPIRED"


async def test_tokens_of_both_kinds_are_accepted_side_by_side() -> None:
    own = new_token()
    async with identity_provider(published(CURVE_KEY, "first")) as provider:
        settings = Settings(tokens=entry(own, "ci", ["read"], None), **provider.settings)
        authentication = Authentication(settings)
        following = asyncio.create_task(authentication.keep_current())

        for credential, name in ((own, "ci"), (token(CURVE_KEY), "recorder")):
            caller = await authentication.admit(Scope.SCOPE_READ, PEER, f"Bearer {credential}")
            assert (caller.name, caller.key) == (name, name)
        for credential, scope, reason in (
            ("", Scope.SCOPE_READ, "UNAUTHENTICATED"),
            ("Bearer unknown", Scope.SCOPE_READ, "TOKEN_INVALID"),
            (f"Bearer {token(CURVE_KEY)}", Scope.SCOPE_DELETE, "SCOPE_MISSING"),
        ):
            with pytest.raises(Failure) as raised:
                await authentication.admit(scope, PEER, credential)
            assert reason_name(raised.value.reason) == reason
        await cancel_and_wait(following)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"jwt_issuer": ""}, "belong together"),
        ({"jwt_audience": ""}, "belong together"),
        ({"jwks_url": ""}, "belong together"),
        ({"jwks_url": "http://login.example.com/keys"}, "not an https URL"),
        ({"jwks_url": "https://a:secret@login.example.com/keys"}, "not an https URL"),
        ({"jwks_url": "login.example.com"}, "not an https URL"),
        ({"jwks_url": "https://[/"}, "not an https URL"),
        ({"jwks_url": "file:///etc/keys"}, "not an https URL"),
    ],
)
def test_settings_that_cannot_be_used_say_why(changes: dict[str, Any], wrong: str) -> None:
    settings = Settings(**{**PLAIN, **changes})

    with pytest.raises(SettingError, match=wrong) as raised:
        Authentication(settings)
    assert "secret" not in str(raised.value)
    [finding] = check_settings(settings, [], {})
    assert wrong in finding.message
    assert Authentication(Settings(**PLAIN)).required
