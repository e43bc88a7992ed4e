"""A pinned media item does not expire, and no update brings back an expiry that is past."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.api.media_update import updated
from ingot_server.errors import Failure
from ingot_server.library.manifest import has_expired
from ingot_server.library.manifest_pb2 import Manifest

PAST = Timestamp(seconds=1)
FUTURE = Timestamp(seconds=1 << 33)


@pytest.mark.parametrize(
    ("media", "expired"),
    [
        (Media(), False),
        (Media(expire_time=FUTURE), False),
        (Media(expire_time=PAST), True),
        (Media(expire_time=PAST, pinned=True), False),
    ],
)
def test_only_what_is_not_pinned_expires(media: Media, expired: bool) -> None:
    assert has_expired(Manifest(media=media)) is expired


@pytest.mark.parametrize(
    ("stored", "values", "paths", "allowed"),
    [
        (Media(pinned=True), Media(), ["pinned"], True),
        (Media(pinned=True, expire_time=FUTURE), Media(), ["pinned"], True),
        (Media(pinned=True, expire_time=PAST), Media(), ["pinned"], False),
        (Media(pinned=True, expire_time=PAST), Media(), ["pinned", "expire_time"], True),
        (Media(pinned=True, expire_time=PAST), Media(title="a"), ["title"], True),
        (Media(pinned=True), Media(expire_time=PAST), ["expire_time"], False),
        (Media(), Media(expire_time=PAST, pinned=True), ["expire_time", "pinned"], False),
    ],
)
def test_an_expiry_is_in_the_future_when_it_is_set_or_in_force_again(
    stored: Media, values: Media, paths: list[str], allowed: bool
) -> None:
    mask = FieldMask(paths=paths)
    if allowed:
        assert not has_expired(updated(Manifest(media=stored), values, mask))
        return
    with pytest.raises(Failure) as raised:
        updated(Manifest(media=stored), values, mask)
    assert raised.value.reason == reason_pb2.REASON_INVALID_REQUEST
    assert set(raised.value.violations) == {"media.expire_time"}
