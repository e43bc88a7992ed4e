from __future__ import annotations

import re

import pytest

from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.setting_values import SettingError


@pytest.mark.parametrize("text", ["ingot", "ingot/", "teams/media-2/v1.0", "_a"])
def test_a_folder_is_the_beginning_of_every_url(text: str) -> None:
    blobs = Blobs(Settings.from_environment({"INGOT_S3_PREFIX": text}))
    url = blobs.url("media/x/1.mp4")
    assert url == f"s3://ingot/{text.rstrip('/')}/media/x/1.mp4"
    assert blobs.key(url) == "media/x/1.mp4"
    assert blobs.locate(url) == (blobs, "media/x/1.mp4")


@pytest.mark.parametrize("text", ["/", "/a", "a//b", "a/../b", ".", "a b", "ä", "a" * 257, "a/?"])
def test_what_is_no_folder_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match=rf"INGOT_S3_PREFIX={re.escape(repr(text))} is not a fo"):
        Settings.from_environment({"INGOT_S3_PREFIX": text})


@pytest.mark.parametrize("text", ["media", "journal/a", "a/uploads/b", "index/"])
def test_a_folder_that_another_ingot_would_clear_up_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="which an Ingot without this prefix uses itself"):
        Settings.from_environment({"INGOT_S3_PREFIX": text})


def test_what_lies_beside_the_folder_is_another_bucket() -> None:
    blobs = Blobs(Settings(s3_prefix="ingot"))
    assert blobs.find("s3", "ingot", "ingot/a.mp4") == (blobs, "a.mp4")
    assert blobs.find("gs", "ingot", "ingot/a.mp4") == (blobs, "a.mp4")
    for name in ("a.mp4", "ingot-2/a.mp4", "media/x/1.mp4"):
        assert blobs.find("s3", "ingot", name) is None
