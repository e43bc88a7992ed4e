"""The environment that the libraries see: what would decide in the place of settings is gone."""

from __future__ import annotations

from ingot_server.cli import forget_library_variables
from tests.installation import FOREIGN_VARIABLES


def test_variables_of_libraries_are_forgotten() -> None:
    environment = {**FOREIGN_VARIABLES, "INGOT_REDIS_URL": "redis://h/0", "PATH": "/bin"}
    forget_library_variables(environment)
    proxies = {name for name in FOREIGN_VARIABLES if name.lower().endswith("_proxy")}
    # Only connections to other machines use proxies, and `extractor update` needs them.
    assert environment.keys() == {"INGOT_REDIS_URL", "PATH", *proxies}


def test_what_the_system_and_the_installer_need_stays() -> None:
    kept = dict.fromkeys(
        ("HOME", "LANG", "SSL_CERT_FILE", "UV_INDEX_URL", "LD_LIBRARY_PATH", "TMPDIR"), "x"
    )
    environment = dict(kept)
    forget_library_variables(environment)
    assert environment == kept
