"""The files that settings name."""

from __future__ import annotations

from pathlib import Path

from ingot_server.access_tokens import AccessTokens
from ingot_server.config import Settings
from ingot_server.egress.tls import tls_context
from ingot_server.library.bucket_settings import read_bucket_settings
from ingot_server.retention_rules import RetentionRules
from ingot_server.setting_values import SettingError
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES


def check_named_files(settings: Settings) -> None:
    """Read every file that a setting names. Raises SettingError for the first that is unusable."""
    read_source_settings(settings, [source.name for source in SOURCES])
    read_bucket_settings(settings)
    AccessTokens(settings)
    RetentionRules(settings)
    tls_context(settings.egress_ca_file)
    plugins = settings.extractor_plugins
    if plugins and not Path(plugins).is_dir():
        raise SettingError(f"INGOT_EXTRACTOR_PLUGINS={plugins!r} is not a directory.")
