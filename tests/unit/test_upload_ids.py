"""The stored ids of uploads: each caller with a name has its own."""

from __future__ import annotations

import pytest

from ingot.v1 import reason_pb2
from ingot_server.api.caller import Caller
from ingot_server.errors import Failure
from ingot_server.library.upload_ids import is_own_upload, sent_upload_id
from ingot_server.sources import pick
from ingot_server.sources.upload import upload_id_of, upload_url

NEWS = "a.b_C-1~19fba0e995b9794f"
LONGEST = "x" * 64
NAMES = ("", "news", "news/recorder", "Jörg~ ")


@pytest.mark.parametrize("upload_id", ["a.b_C-1", LONGEST])
@pytest.mark.parametrize("name", NAMES)
def test_an_id_is_known_by_its_caller_alone(upload_id: str, name: str) -> None:
    stored = Caller("unix:", name).own_upload_id(upload_id)

    assert sent_upload_id(stored) == upload_id
    assert [each for each in NAMES if is_own_upload(stored, each)] == [name]
    assert (stored == upload_id) == (not name)
    # A worker finds the upload by the URL of its job.
    source, identity = pick(upload_url(stored))
    assert (source.name, upload_id_of(identity.url)) == ("upload", stored)


def test_the_stored_id_is_the_same_in_every_version() -> None:
    assert Caller("unix:", "news").own_upload_id("a.b_C-1") == NEWS


@pytest.mark.parametrize("name", ["", "news", "archive"])
def test_nobody_can_send_a_stored_id(name: str) -> None:
    with pytest.raises(Failure) as caught:
        Caller("unix:", name).own_upload_id(NEWS)
    assert caught.value.reason == reason_pb2.REASON_UPLOAD_NOT_FOUND


def test_an_upload_without_an_id_has_none_before_the_server_gives_it_one() -> None:
    assert Caller("unix:", "news").own_upload_id("") == ""


@pytest.mark.parametrize(
    "url",
    [
        "upload:a~19fba0e995b9794f",
        "upload-id:a~",
        "upload-id:~19fba0e995b9794f",
        "upload-id:a~19FBA0E995B9794F",
        "upload-id:a~19fba0e995b9794f~19fba0e995b9794f",
        f"upload-id:{LONGEST}x",
    ],
)
def test_other_urls_are_not_those_of_uploads(url: str) -> None:
    with pytest.raises(Failure) as caught:
        pick(url)
    assert caught.value.reason == reason_pb2.REASON_UNSUPPORTED_URL
