"""What UpdateMedia changes of a media item."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from ingot.v1.media_pb2 import Media
from ingot_server.api.status import invalid
from ingot_server.library.bounds import bound
from ingot_server.library.manifest import has_expired, is_past_expiry
from ingot_server.library.manifest_pb2 import Manifest


def updated(stored: Manifest, values: Media, mask: FieldMask) -> Manifest:
    """Return a copy of `stored` that has the fields in `mask` from `values`.

    Raises Failure INVALID_REQUEST for values past the bounds of a media item, and for an
    expire_time that is not in the future: a new one, or one that is in force again.
    """
    changed = Manifest()
    changed.CopyFrom(stored)
    media = changed.media
    mask.MergeMessage(values, media, replace_message_field=True, replace_repeated_field=True)
    sets_past = "expire_time" in mask.paths and is_past_expiry(media)
    if sets_past or ("pinned" in mask.paths and has_expired(changed)):
        raise invalid(
            {"media.expire_time": "must be in the future; DeleteMedia deletes a media item at once"}
        )
    # What was cut of a field is gone together with its old value.
    kept = [path for path in media.truncated_fields if path not in mask.paths]
    media.truncated_fields[:] = kept
    bound(media)
    if too_large := set(media.truncated_fields) - set(kept):
        raise invalid(
            {f"media.{path}": "is too large for a media item" for path in sorted(too_large)}
        )
    return changed
