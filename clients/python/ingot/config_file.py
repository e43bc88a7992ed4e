"""The configuration file of the command line: `ingot/config.toml` below XDG_CONFIG_HOME.

    server = "https://ingot.example.com"    the address of the server
    token = "..."                           sent to this server only
    ca = "/etc/ssl/company.pem"             trusted for this server only
    certificate = "/etc/ssl/me.pem"         shown to this server only
    key = "/etc/ssl/me-key.pem"             the key of the certificate

Only its owner can read the file. `ingot config` writes it.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

KEYS: Final = ("server", "token", "ca", "certificate", "key")


class ConfigError(ValueError):
    """The configuration file, an option or a variable of the environment is not valid."""


def config_path(environment: Mapping[str, str]) -> Path:
    """Return the path of the file, which may not exist (XDG Base Directory Specification)."""
    base = environment.get("XDG_CONFIG_HOME", "")
    # The specification: a path that is not absolute is ignored.
    directory = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return directory / "ingot" / "config.toml"


def read_config(path: Path) -> dict[str, str]:
    """Return what the file sets, which is nothing if there is no file. Raises ConfigError."""
    try:
        values = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid: {error}. Correct or delete it.") from error
    for key, value in values.items():
        if key not in KEYS:
            known = ", ".join(KEYS)
            raise ConfigError(f"{path} sets {key!r}, but its keys are {known}. Correct it.")
        if not isinstance(value, str):
            raise ConfigError(f"{path} sets {key} to something other than a string. Correct it.")
    return values


def write_config(path: Path, values: Mapping[str, str]) -> None:
    """Replace the file, which only its owner can read. Raises OSError."""
    # A string of JSON is one of TOML if its characters are printable.
    lines = [f"{key} = {json.dumps(values[key], ensure_ascii=False)}\n" for key in sorted(values)]
    write_private(path, "".join(lines))


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step with one that only its owner can read. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes a file that only its owner can read.
    descriptor, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
