"""The other side of an export or import, as the command names it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ingot_server.backup.bucket_place import BucketPlace
from ingot_server.backup.directory_place import DirectoryPlace
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.bucket_settings import settings_of_bucket
from ingot_server.library.s3 import folder_prefix
from ingot_server.setting_checks import check_s3_prefix
from ingot_server.setting_values import SettingError

_SCHEME: Final = "s3://"


def other_place(settings: Settings, address: str) -> BucketPlace | DirectoryPlace:
    """Return the place at `address`: a directory, or `s3://BUCKET/FOLDER`. Nothing is opened yet.

    The bucket is on the installation's server, unless INGOT_BUCKETS_FILE says where it is. Raises
    SettingError if there can be no such place, or if it is the installation's own.
    """
    if not address.startswith(_SCHEME):
        if "://" in address or not address:
            raise SettingError(f"{address!r} is neither a directory nor s3://BUCKET/FOLDER.")
        return DirectoryPlace(Path(address))
    name, _, folder = address.removeprefix(_SCHEME).partition("/")
    try:
        check_s3_prefix(folder)
    except SettingError as error:
        raise SettingError(f"{address} cannot be used: {error}") from None
    other = settings_of_bucket(settings, name).replace(s3_prefix=folder, buckets_file="")
    if _location(other) == _location(settings):
        raise SettingError(f"{address} is where this installation keeps its media already.")
    return BucketPlace(Blobs(other), settings.scratch_dir)


def _location(settings: Settings) -> tuple[str, str, str]:
    return settings.s3_endpoint, settings.s3_bucket, folder_prefix(settings.s3_prefix)
