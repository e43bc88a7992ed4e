"""Buckets besides the installation's own, read once from the file that INGOT_BUCKETS_FILE names.

    [s3.incoming]                   # s3://incoming/..., on the installation's server
    [s3.archive]                    # s3://archive/..., on another one
    endpoint = "s3.eu-west-1.amazonaws.com"
    region = "eu-west-1"
    access_key = "..."
    secret_key = "..."
    [gs.footage]                    # gs://footage/..., at Google's; the keys are HMAC keys
    access_key = "GOOG..."
    secret_key = "..."

Every key is optional if the server is the installation's. With INGOT_S3_PREFIX, the installation's
own bucket can be one of them: then what lies beside the prefix may be adopted. Google is used
through its XML API, which accepts S3 requests
(https://cloud.google.com/storage/docs/interoperability).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ingot_server.config import Settings
from ingot_server.library.s3 import is_bucket_name
from ingot_server.setting_values import Secret, SettingError, read_setting_file

VARIABLE: Final = "INGOT_BUCKETS_FILE"

_TEXTS: Final = ("endpoint", "region", "access_key", "secret_key", "public_endpoint")
_KEYS: Final = (*_TEXTS, "secure")
_GOOGLE: Final = {
    "s3_endpoint": "storage.googleapis.com",
    "s3_region": "auto",
    "s3_secure": True,
    "s3_public_endpoint": "",
}


def read_bucket_settings(settings: Settings) -> Mapping[str, Settings]:
    """Return the settings of each bucket, by `s3://NAME` or `gs://NAME`.

    They are the installation's settings with other S3 settings. Raises SettingError for a file that
    cannot be used. The error names the bucket and the key, but not the value, which may be secret.
    """
    if not settings.buckets_file:
        return MappingProxyType({})
    found: dict[str, Settings] = {}
    for scheme, name, table, where in _tables(settings):
        if scheme == "s3" and name == settings.s3_bucket and not settings.s3_prefix:
            raise SettingError(f"{where} is the installation's own bucket. Remove the table.")
        found[f"{scheme}://{name}"] = _merged(settings, scheme, name, table, where)
    return MappingProxyType(found)


def settings_of_bucket(settings: Settings, name: str) -> Settings:
    """Return the settings of the bucket `s3://NAME`, which may be on the installation's server.

    It has the name of the installation's own bucket if it is one of another server. Raises
    SettingError if it cannot be a bucket, or as `read_bucket_settings` does.
    """
    if not is_bucket_name(name):
        raise SettingError(f"{name!r} is not the name of a bucket. Write it as s3://BUCKET/FOLDER.")
    if settings.buckets_file:
        for scheme, each, table, where in _tables(settings):
            if (scheme, each) == ("s3", name):
                return _merged(settings, scheme, name, table, where)
    return settings.replace(s3_bucket=name, s3_prefix="")


def _tables(settings: Settings) -> Iterator[tuple[str, str, Mapping[str, object], str]]:
    """Yield scheme, name and table of each bucket, and where it is, for messages."""
    path = Path(settings.buckets_file)
    for scheme, tables in read_setting_file(VARIABLE, path).items():
        if scheme not in ("s3", "gs") or not isinstance(tables, dict):
            raise SettingError(f"{VARIABLE}: {path}: write each bucket as [s3.NAME] or [gs.NAME].")
        for name, table in tables.items():
            where = f"{VARIABLE}: {path}: [{scheme}.{name}]"
            if not isinstance(table, dict):
                raise SettingError(f'{where} is not a table. Quote a name with dots: [s3."a.b"].')
            if not is_bucket_name(name):
                raise SettingError(
                    f'{where}: that is not a bucket name. Quote a name with dots: [s3."a.b"].'
                )
            yield scheme, name, table, where


def _merged(
    settings: Settings, scheme: str, name: str, table: Mapping[str, object], where: str
) -> Settings:
    changes: dict[str, object] = {"s3_bucket": name, "s3_prefix": ""}
    elsewhere = scheme == "gs" or "endpoint" in table
    if elsewhere:
        # The installation's keys and its public endpoint are for its own server only.
        changes |= {"s3_access_key": "", "s3_secret_key": Secret(""), "s3_public_endpoint": ""}
    if elsewhere or "access_key" in table:
        changes["s3_credentials"] = "keys"
    if scheme == "gs":
        changes |= _GOOGLE
    for key, value in table.items():
        if key not in _KEYS:
            raise SettingError(
                f"{where} has an unknown key `{key}`; the keys are {', '.join(_KEYS)}."
            )
        if key == "secure":
            if not isinstance(value, bool):
                raise SettingError(f"{where} secure must be true or false.")
            changes["s3_secure"] = value
        elif not isinstance(value, str) or not value:
            raise SettingError(f"{where} {key} must be text in quotes.")
        else:
            changes[f"s3_{key}"] = Secret(value) if key == "secret_key" else value
    if elsewhere and not (changes["s3_access_key"] and changes["s3_secret_key"]):
        raise SettingError(f"{where} needs an access_key and a secret_key of its server.")
    return settings.replace(**changes)
