"""Manifests of every schema version are read, and those of a newer version are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.library.manifest import SCHEMA_VERSION, parse, serialize
from ingot_server.library.manifest_pb2 import Manifest, SourceVersion

MEDIA_ID = "2fsozj2w2ztcfi73a2srw2iimg745kahj3ctttmusiprf22nmd7q"
KEY = f"media/{MEDIA_ID}/media.json"


def read(stored: object) -> Manifest:
    return parse(MEDIA_ID, KEY, json.dumps(stored).encode(), "etag")


def test_a_manifest_says_its_schema_version() -> None:
    written = json.loads(serialize(Manifest(media=Media(title="clip")), KEY))

    assert written == {"schemaVersion": SCHEMA_VERSION, "media": {"title": "clip"}}
    assert read(written) == Manifest(
        schema_version=SCHEMA_VERSION, media=Media(id=MEDIA_ID, etag="etag", title="clip")
    )


def test_a_manifest_without_a_schema_version_has_the_first() -> None:
    assert read({"media": {"title": "clip"}}).media.title == "clip"


@pytest.mark.parametrize(
    "stored",
    [
        {"schemaVersion": SCHEMA_VERSION + 1, "media": {"title": "clip"}},
        {"schemaVersion": SCHEMA_VERSION + 1, "tombstone": {}},
        {"schemaVersion": SCHEMA_VERSION + 1, "media": {"title": {"en": "clip"}}},
        {"schemaVersion": SCHEMA_VERSION + 1, "blob": {}},
    ],
)
def test_a_newer_schema_version_is_refused_with_what_to_do(stored: dict[str, Any]) -> None:
    with pytest.raises(Failure, match=f"{KEY} was written by a newer .* Upgrade this") as raised:
        read(stored)

    assert raised.value.reason == reason_pb2.REASON_WRITTEN_BY_NEWER_VERSION
    assert raised.value.transient


@pytest.mark.parametrize("stored", [[], "media", None, {}, {"schemaVersion": SCHEMA_VERSION}])
def test_what_is_no_manifest_is_damaged(stored: object) -> None:
    with pytest.raises(Failure, match="cannot be read") as raised:
        read(stored)

    assert raised.value.reason == reason_pb2.REASON_INTERNAL


def test_a_manifest_of_the_first_builds_has_its_source_version() -> None:
    confirm_time = "2026-11-21T10:00:00Z"
    early = {
        "blob": {"url": "s3://ingot/clip"},
        "video": [{"frameRate": 29.97002997002997, "bitRate": "31496"}],
        "freshness": {"httpEtag": '"v1"', "httpLastModified": "then", "validateTime": confirm_time},
    }

    manifest = read(early)

    version = SourceVersion(http_etag='"v1"', http_last_modified="then")
    version.confirm_time.FromJsonString(confirm_time)
    assert manifest.source_version == version
    assert json_format.MessageToDict(manifest.media.video[0]) == {
        "frameRate": {"numerator": 30000, "denominator": 1001},
        "bitrateBps": "31496",
    }
    assert "schemaVersion" in json.loads(serialize(manifest, KEY))
