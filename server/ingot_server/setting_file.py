"""The files that settings name: TOML, for what has too many parts for one variable."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ingot_server.config import SettingError


def read_setting_file(variable: str, path: Path) -> dict[str, object]:
    """The content of the file that the setting `variable` names. Raises SettingError."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(f"{variable}: {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{variable}: {path} is no TOML: {error}.") from error
