"""The tokens of `ingot login`, one for each server: in the keyring of the system, or in a file.

    ingot/tokens.json below XDG_CONFIG_HOME, mode 0600:
    {"https://ingot.example.com:443": {"keyring": true}, "ingot://10.0.0.5:50051": {"token": "..."}}

A keyring is used if the package `keyring` is installed and finds one. The file says for which
servers, because to load it takes longer than most commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ingot.address import Address
from ingot.config_file import ConfigError, config_path, write_private

_SERVICE: Final = "ingot"


class StoredTokens:
    """The tokens of the user whose environment this is."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.path = config_path(environment).with_name("tokens.json")

    def find(self, address: Address) -> str:
        """Return the token of a server, or nothing. Raises ConfigError."""
        entry = self._read().get(_name(address), {})
        if entry.get("keyring"):
            return _from_keyring(_name(address))
        return str(entry.get("token", ""))

    def store(self, address: Address, token: str) -> str:
        """Keep a token, and return where it is. Raises ConfigError and OSError."""
        name = _name(address)
        in_keyring = _into_keyring(name, token)
        entry = {"keyring": True} if in_keyring else {"token": token}
        write_private(self.path, json.dumps({**self._read(), name: entry}, indent=1) + "\n")
        return "the keyring" if in_keyring else str(self.path)

    def remove(self, address: Address) -> bool:
        """Forget a token; return whether there was one. Raises ConfigError and OSError."""
        entries = self._read()
        entry = entries.pop(_name(address), None)
        if entry is None:
            return False
        if entry.get("keyring"):
            _out_of_keyring(_name(address))
        write_private(self.path, json.dumps(entries, indent=1) + "\n")
        return True

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries = json.loads(self.path.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise ConfigError(f"Cannot read {self.path}: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigError(
                f"{self.path} is not valid JSON. Delete it and log in again."
            ) from error
        if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
            raise ConfigError(f"{self.path} is not valid. Delete it and log in again.")
        return entries


def _name(address: Address) -> str:
    if address.target.startswith("unix:"):
        return address.target
    return f"{'https' if address.tls else 'ingot'}://{address.target}"


def _into_keyring(name: str, token: str) -> bool:
    """Store a token in the keyring; return whether there is one that takes it."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return False
    try:
        keyring.set_password(_SERVICE, name, token)
        # There are keyrings that keep nothing.
        return keyring.get_password(_SERVICE, name) == token
    except keyring.errors.KeyringError:
        return False


def _from_keyring(name: str) -> str:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise ConfigError(
            "The token is in the keyring, and the package `keyring` is not installed here. Install"
            " ingot-client[keyring], or run `ingot login` again."
        ) from None
    try:
        return keyring.get_password(_SERVICE, name) or ""
    except keyring.errors.KeyringError as error:
        raise ConfigError(
            f"The keyring does not give the token: {error}. Unlock it, or set INGOT_TOKEN."
        ) from error


def _out_of_keyring(name: str) -> None:
    try:
        import keyring
        import keyring.errors

        keyring.delete_password(_SERVICE, name)
    except ImportError:
        pass
    except keyring.errors.KeyringError:
        pass  # it is gone already, or the keyring is
