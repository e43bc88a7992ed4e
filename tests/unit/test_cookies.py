"""What a cookies file and the answers of sites say of the cookies in it."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import pytest
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.extractor.youtube import YoutubeIE

from ingot.render import source_row
from ingot.v1.source_service_pb2 import CookiesStatus, SourceStatus
from ingot_server.cookie_file import CookieFile, CookieFileError, read_cookie_file
from ingot_server.cookie_health import Answer, read_or_error, status_of
from ingot_server.extractor.cookie_rejection import asks_to_sign_in, signed_out

HEAD = "# Netscape HTTP Cookie File\n"
PAST, SOON, LATER = -60, 86400, 90 * 86400
SESSION = None


def written(path: Path, *cookies: tuple[str, str, int | None]) -> Path:
    """A file of cookies, each with its domain, name, and the seconds until it expires."""
    now = int(time.time())
    path.write_text(
        HEAD
        + "".join(
            f"{domain}\tTRUE\t/\tTRUE\t{0 if left is None else now + left}\t{name}\tvalue\n"
            for domain, name, left in cookies
        )
    )
    return path


def youtube(**cookies: int | None) -> list[tuple[str, str, int | None]]:
    return [(".youtube.com", name, left) for name, left in cookies.items()]


SIGNED_IN = youtube(LOGIN_INFO=LATER, SAPISID=LATER)
ACCEPTED = Answer("youtube.com", True, 1_000)
REJECTED = Answer("youtube.com", False, 2_000)


@pytest.mark.parametrize(
    ("source", "cookies", "answers", "state"),
    [
        ("youtube", SIGNED_IN, [], "VALID"),
        ("youtube", [*SIGNED_IN, *youtube(GPS=PAST)], [], "VALID"),
        ("youtube", youtube(LOGIN_INFO=SOON, SAPISID=LATER), [], "EXPIRING"),
        ("youtube", youtube(LOGIN_INFO=LATER, SAPISID=PAST), [], "EXPIRED"),
        (
            "youtube",
            [*youtube(LOGIN_INFO=LATER, SAPISID=PAST), (".youtube.com", "__Secure-3PAPISID", SOON)],
            [],
            "EXPIRING",
        ),
        ("youtube", youtube(LOGIN_INFO=SESSION, SAPISID=SESSION), [], "UNKNOWN"),
        ("youtube", youtube(LOGIN_INFO=SESSION, SAPISID=SESSION), [ACCEPTED], "VALID"),
        ("youtube", youtube(PREF=LATER), [], "UNKNOWN"),
        ("youtube", [], [], "UNKNOWN"),
        ("youtube", SIGNED_IN, [REJECTED], "REJECTED"),
        ("youtube", youtube(LOGIN_INFO=PAST, SAPISID=LATER), [REJECTED], "EXPIRED"),
        ("youtube", youtube(LOGIN_INFO=SOON, SAPISID=LATER), [ACCEPTED], "EXPIRING"),
        ("web", [("a.example", "a", PAST), ("b.example", "b", LATER)], [], "VALID"),
        ("web", [("a.example", "a", PAST), ("b.example", "b", PAST)], [], "EXPIRED"),
        ("web", [("a.example", "a", PAST), ("b.example", "b", SESSION)], [], "UNKNOWN"),
        ("web", [("a.example", "a", LATER)], [ACCEPTED, Answer("b", False, 1)], "REJECTED"),
    ],
)
def test_the_state_follows_from_the_file_and_the_answers(
    tmp_path: Path,
    source: str,
    cookies: list[tuple[str, str, int | None]],
    answers: list[Answer],
    state: str,
) -> None:
    status = status_of(source, read_cookie_file(written(tmp_path / "c", *cookies)), answers)

    assert CookiesStatus.State.Name(status.state) == f"STATE_{state}"
    assert bool(status.summary) == (state != "VALID")
    if state in {"EXPIRED", "EXPIRING"}:
        expired = status.expire_time.seconds <= time.time()
        assert expired == (state == "EXPIRED")
    if answers:
        newest = max(answer.milliseconds for answer in answers)
        assert status.answer_time.ToMilliseconds() == newest


def test_a_file_that_cannot_be_read_says_why_without_a_value(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_text(f"{HEAD}.youtube.com TRUE / hunter2\n")
    for name, why in (("absent", "cannot be read"), ("damaged", "line 2")):
        found = read_or_error(tmp_path / name)
        assert isinstance(found, CookieFileError)
        status = status_of("youtube", found)
        assert status.state == CookiesStatus.STATE_UNREADABLE
        assert why in status.summary
        assert "hunter2" not in str(status)


def test_a_file_is_named_by_its_content_and_shows_no_value(tmp_path: Path) -> None:
    first = read_cookie_file(written(tmp_path / "a", *SIGNED_IN))
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes())

    assert read_cookie_file(tmp_path / "b") == first
    assert read_cookie_file(written(tmp_path / "b", *youtube(SID=LATER))).digest != first.digest
    assert "value" not in repr(first)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.youtube.com", "youtube.com"),
        ("YouTube.com.", "youtube.com"),
        ("notyoutube.com", ""),
        ("vimeo.com", ""),
        ("", ""),
    ],
)
def test_only_a_site_that_gets_cookies_can_answer_to_them(
    tmp_path: Path, host: str, domain: str
) -> None:
    (tmp_path / "c").write_text(
        f"{HEAD}#HttpOnly_.www.youtube.com\tTRUE\t/\tTRUE\t0\tA\tb\n"
        ".youtube.com\tTRUE\t/\tTRUE\tnever\tskipped\tb\n.YouTube.com\tTRUE\t/\tTRUE\t\tC\td\n"
    )
    file = read_cookie_file(tmp_path / "c")

    assert [cookie.name for cookie in file.cookies] == ["A", "C"]
    assert file.domain_of(host) == domain


def test_a_rejection_is_known_by_the_words_of_this_yt_dlp() -> None:
    extractor = InfoExtractor()
    hints = [extractor._login_hint(method) for method in ("any", "cookies", "session_cookies")]

    assert all(asks_to_sign_in(f"Sign in to confirm your age. {hint}") for hint in hints)
    assert not asks_to_sign_in("Private video. Sign in if you've been granted access")
    assert signed_out(inspect.getsource(YoutubeIE._request_webpage))
    assert not signed_out("The cookies of the account are stale")


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (None, "cookies"),
        (CookiesStatus(state=CookiesStatus.STATE_REJECTED), "cookies (rejected)"),
        (CookiesStatus(state=CookiesStatus.STATE_UNKNOWN), "cookies (unknown)"),
    ],
)
def test_the_command_line_shows_the_state(status: CookiesStatus | None, shown: str) -> None:
    source = SourceStatus(name="youtube", has_cookies=True, has_proxy=True, cookies=status)

    assert source_row(source)[3] == f"{shown}, proxy"


def test_the_command_line_shows_when_they_expire(tmp_path: Path) -> None:
    file = read_cookie_file(written(tmp_path / "c", *SIGNED_IN))
    assert isinstance(file, CookieFile)
    source = SourceStatus(has_cookies=True, cookies=status_of("youtube", file))

    assert source_row(source)[3].startswith("cookies (valid until 20")
