"""The tokens of callers: how they are written, and who may do what with them."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingot.v1.scope_pb2 import Scope
from ingot_server.access_tokens import AccessTokens, entry, new_token
from ingot_server.api import call_head
from ingot_server.api.authentication import Authentication
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.doctor.named_files import check_named_files
from ingot_server.errors import Failure, reason_name
from ingot_server.setting_values import SettingError
from tests.waiting import until

PEER = "ipv4:127.0.0.1:40000"
READ = Scope.SCOPE_READ


def with_tokens(*entries: str) -> Settings:
    return Settings(tokens="".join(entries))


async def refusal(settings: Settings, authorization: str, scope: Scope.ValueType = READ) -> str:
    with pytest.raises(Failure) as raised:
        await Authentication(settings).admit(scope, PEER, authorization)
    return reason_name(raised.value.reason)


def test_an_entry_is_read_as_it_is_written() -> None:
    token = new_token()
    expire_time = datetime(2027, 1, 31, tzinfo=UTC)

    found = AccessTokens(with_tokens(entry(token, "ci/a", ["read", "delete"], expire_time)))

    known = found.find(token)
    assert known is not None
    assert known.name == "ci/a"
    assert known.scopes == frozenset({Scope.SCOPE_READ, Scope.SCOPE_DELETE})
    assert known.expires == expire_time.timestamp()
    assert found.find(token[:-1]) is None
    assert found.find("") is None


def test_a_quota_replaces_the_limits_that_it_names() -> None:
    token, plain = new_token(), new_token()
    quota = {"jobs": "5", "watches": "0"}
    entries = entry(token, "ci", ["read"], None, quota) + entry(plain, "ci", ["read"], None)

    found = AccessTokens(Settings(tokens=entries, calls_per_caller=7, jobs_per_caller=8))

    limited, other = found.find(token), found.find(plain)
    assert limited is not None
    assert other is not None
    assert (limited.limits.calls, limited.limits.jobs, limited.limits.watches) == (7, 5, 0)
    assert (other.limits.calls, other.limits.jobs, other.limits.watches) == (7, 8, 1000)


@pytest.mark.parametrize(
    ("peer", "calls", "watches"),
    [("unix:", 0, 9), (PEER, 0, 9), ("ipv4:203.0.113.9:1", 7, 9)],
)
async def test_a_program_of_this_machine_without_a_name_may_call_as_it_likes(
    peer: str, calls: int, watches: int
) -> None:
    settings = Settings(calls_per_caller=7, jobs_per_caller=7, watches_per_caller=9)
    limits = (await Authentication(settings).admit(READ, peer, "")).limits
    assert (limits.calls, limits.jobs, limits.watches) == (calls, calls, watches)


def test_an_entry_does_not_have_the_token() -> None:
    token = new_token()
    written = entry(token, "ci", ["read"], None)

    assert token not in written
    assert token.removeprefix("ingot_") not in written
    assert new_token() != token


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("token", "not valid TOML"),
        ('user = "a"', r"write each token as a table, \[\[token\]\]"),
        ("[token]", r"write each token as a table, \[\[token\]\]"),
        ('[[token]]\nname = "a b"', "name"),
        ('[[token]]\nname = "a"\nsha256 = "secret"', "never the token itself"),
        ('[[token]]\nname = "a"\nsecret = "x"', "the keys are"),
        (f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = []', "scopes"),
        (f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = ["all"]', "scopes"),
        (f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = [["read"]]', "scopes"),
        *(
            (f'[[token]]\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = ["read"]\n{line}', wrong)
            for line, wrong in (
                ("expire_time = 1", "with its zone"),
                ("quota = 5", "write a table with some of calls, jobs"),
                ("quota = { gold = 5 }", "write a table with some of calls, jobs"),
                ("quota = { jobs = -1 }", r"quota.jobs='-1' is not a whole number"),
                ("quota = { jobs = true }", r"quota.jobs='True' is not a whole number"),
            )
        ),
    ],
)
def test_an_entry_that_cannot_be_used_says_why(text: str, wrong: str) -> None:
    with pytest.raises(SettingError, match=wrong) as raised:
        AccessTokens(with_tokens(text))
    assert "secret" not in str(raised.value)


async def test_without_tokens_every_caller_may_do_everything() -> None:
    caller = await Authentication(Settings()).admit(Scope.SCOPE_DELETE, PEER, "")

    assert (caller.name, caller.key) == ("", "127.0.0.1")
    for scope in set(Scope.values()) - {Scope.SCOPE_UNSPECIFIED}:
        caller.require(scope)


async def test_a_caller_is_known_by_the_name_of_its_token() -> None:
    first, second = new_token(), new_token()
    settings = with_tokens(*(entry(token, "ci", ["read"], None) for token in (first, second)))

    for token in (first, second):
        caller = await Authentication(settings).admit(READ, PEER, f"bearer {token}")
        assert (caller.name, caller.key, caller.peer) == ("ci", "ci", PEER)


async def test_a_call_is_refused_with_the_reason() -> None:
    token, expired = new_token(), new_token()
    settings = with_tokens(
        entry(token, "ci", ["read"], datetime.now(UTC) + timedelta(days=1)),
        entry(expired, "ci", ["read"], datetime.now(UTC) - timedelta(seconds=1)),
    )

    assert await refusal(settings, "") == "UNAUTHENTICATED"
    assert await refusal(settings, "Bearer ") == "UNAUTHENTICATED"
    assert await refusal(settings, f"Basic {token}") == "UNAUTHENTICATED"
    assert await refusal(settings, f"Bearer {token}x") == "TOKEN_INVALID"
    assert await refusal(settings, f"Bearer {expired}") == "TOKEN_EXPIRED"
    assert await refusal(settings, f"Bearer {token}", Scope.SCOPE_DELETE) == "SCOPE_MISSING"


async def test_of_two_credentials_none_counts() -> None:
    token = new_token()
    headers = [(b"authorization", f"Bearer {each}".encode()) for each in (token, new_token())]

    sent = call_head.authorization({"headers": headers})

    assert await refusal(with_tokens(entry(token, "ci", ["read"], None)), sent) == "TOKEN_INVALID"


async def test_a_file_without_tokens_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.touch()

    settings = Settings(tokens_file=str(path))

    assert await refusal(settings, f"Bearer {new_token()}") == "TOKEN_INVALID"
    missing = Settings(tokens_file=str(tmp_path / "missing.toml"))
    for check in (AccessTokens, check_named_files):
        with pytest.raises(SettingError, match="cannot be read"):
            check(missing)


async def test_a_file_is_read_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.toml"
    old, new = new_token(), new_token()
    path.write_text(entry(old, "ci", ["read"], None))
    tokens = AccessTokens(Settings(tokens_file=str(path)))
    following = asyncio.create_task(tokens.keep_current())

    path.write_text("[[token]]\nname =")
    await until(lambda: "The tokens stay as they were" in caplog.text)
    assert tokens.find(old)

    path.write_text(entry(new, "ci", ["read"], None))
    await until(lambda: tokens.find(new) is not None)
    assert not tokens.find(old)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    await cancel_and_wait(following)


async def test_a_caller_that_is_known_has_what_its_token_says_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "tokens.toml"
    token = new_token()
    path.write_text(entry(token, "ci", ["read"], None))
    authentication = Authentication(Settings(tokens_file=str(path)))
    following = asyncio.create_task(authentication.keep_current())

    async def replace(content: str) -> None:
        caplog.clear()
        path.write_text(content)
        await until(lambda: "1 tokens" in caplog.text)

    assert (await authentication.admit(READ, PEER, f"Bearer {token}")).scopes == {READ}

    await replace(entry(token, "ci", ["write"], None))
    caller = await authentication.admit(None, PEER, f"Bearer {token}")
    assert caller.scopes == {Scope.SCOPE_WRITE}

    await replace(entry(new_token(), "ci", ["read"], None))
    with pytest.raises(Failure, match="not one that this server knows"):
        await authentication.admit(None, PEER, f"Bearer {token}")
    await cancel_and_wait(following)


async def test_a_caller_that_is_known_is_refused_once_its_token_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token, expire_time = new_token(), datetime.now(UTC) + timedelta(hours=1)
    settings = with_tokens(entry(token, "ci", ["read"], expire_time))
    authentication = Authentication(settings)

    assert (await authentication.admit(READ, PEER, f"Bearer {token}")).name == "ci"

    monkeypatch.setattr(time, "time", expire_time.timestamp)
    with pytest.raises(Failure, match="expired"):
        await authentication.admit(READ, PEER, f"Bearer {token}")


async def test_a_known_caller_is_told_from_others_by_its_peer_and_by_its_token() -> None:
    token = new_token()
    authentication = Authentication(with_tokens(entry(token, "ci", ["read"], None)))

    for peer in (PEER, "ipv4:127.0.0.1:40001", PEER):
        assert (await authentication.admit(READ, peer, f"Bearer {token}")).peer == peer
    with pytest.raises(Failure):
        await authentication.admit(READ, PEER, f"Bearer {new_token()}")
