from __future__ import annotations

import json
from typing import Any

import pytest

from ingot_server.extractor.raw_info import LARGEST_BYTES, raw_info

INFO: dict[str, Any] = {
    "id": "a",
    "title": "A Bell",
    "webpage_url": "https://me:secret@host/watch?v=a",
    "http_headers": {"Authorization": "Bearer secret"},
    "cookies": "session=secret",
    "filepath": "/scratch/secret",
    "__private": "secret",
    "thumbnails": [{"url": "https://host/picture?w=9"}],
    "formats": [
        {
            "format_id": "18",
            "url": "https://media/18?token=signed",
            "http_headers": {"Cookie": "secret"},
            "cookies": "secret",
            "fragments": [{"url": "https://media/1?token=signed"}],
            "hls_aes": {"key": "secret"},
            "ingot_track": object(),
        }
    ],
}


@pytest.mark.parametrize("is_identified", [False, True])
def test_secrets_are_left_out(is_identified: bool) -> None:
    content = raw_info(INFO, is_identified=is_identified)

    assert content is not None
    assert b"secret" not in content
    assert b"ingot_track" not in content
    found = json.loads(content)
    assert found["webpage_url"] == "https://host/watch?v=a"
    assert (b"signed" in content) != is_identified
    assert found["formats"][0]["url"] == "https://media/18" + "?token=signed" * (not is_identified)


@pytest.mark.parametrize(
    ("fields", "omitted"),
    [
        ({"automatic_captions": 1.1}, ["automatic_captions"]),
        ({"automatic_captions": 0.1, "formats": 1}, ["automatic_captions", "formats"]),
        ({"automatic_captions": 0.5}, None),
    ],
)
def test_what_is_too_large_is_left_out_and_named(
    fields: dict[str, float], omitted: list[str] | None
) -> None:
    large = {name: ["x" * int(share * LARGEST_BYTES)] for name, share in fields.items()}
    content = raw_info({"id": "a", **large}, is_identified=False)
    assert content is not None
    assert len(content) <= LARGEST_BYTES
    assert json.loads(content).get("omitted") == omitted


def test_what_cannot_be_bounded_is_not_stored() -> None:
    assert raw_info({"description": "x" * LARGEST_BYTES}, is_identified=False) is None
