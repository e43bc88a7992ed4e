"""Which server the command calls: options, environment, and the file that `ingot config` writes."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from ingot.arguments import build_parser
from ingot.cli import main
from ingot.config_file import ConfigError, config_path, read_config
from ingot.server_options import VARIABLES, find_settings
from tests import tls

FILE = "https://file.example"
TOKEN = "secret-of-the-file"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without variables of Ingot, and with a directory for the file."""
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def settings(environment: Mapping[str, str], *arguments: str) -> dict[str, str]:
    found = find_settings(build_parser().parse_args([*arguments, "jobs"]), environment)
    return {key: setting.value for key, setting in found.items()}


def test_an_option_wins_over_the_environment_the_file_and_the_default(
    environment: dict[str, str],
) -> None:
    assert settings(environment) == {"server": "localhost:50051"}

    main(["config", "set", "server", FILE])
    assert settings(environment) == {"server": FILE}

    environment["INGOT_SERVER"] = "variable.example"
    assert settings(environment) == {"server": "variable.example"}
    environment["INGOT_TOKEN"] = "secret-of-the-variable"
    assert settings(environment)["token"] == "secret-of-the-variable"

    options = ("--server", "option.example", "--token", "secret", "--ca", "x.pem")
    assert settings(environment, *options) == {
        "server": "option.example",
        "token": "secret",
        "ca": "x.pem",
    }


def test_the_token_of_the_file_is_for_the_server_of_the_file(
    environment: dict[str, str],
) -> None:
    main(["config", "set", "server", FILE])
    main(["config", "set", "token", TOKEN])

    assert settings(environment) == {"server": FILE, "token": TOKEN}
    assert settings(environment, "--server", f"{FILE}:443/")["token"] == TOKEN
    assert "token" not in settings(environment, "--server", "https://other.example")
    assert "token" not in settings({**environment, "INGOT_SERVER": "https://other.example"})
    assert settings(environment, "--token", "")["token"] == ""


def test_only_the_owner_can_read_the_file(environment: dict[str, str]) -> None:
    path = config_path(environment)
    path.parent.mkdir()
    path.write_text("")
    path.chmod(0o644)

    assert main(["config", "set", "token", TOKEN]) == 0

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_show_says_where_values_are_from_and_hides_the_token(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["config", "set", "server", FILE])
    main(["config", "set", "token", TOKEN])
    main(["config", "show"])
    shown = capsys.readouterr().out
    assert f"{FILE}  (from {config_path(environment)})" in shown
    assert TOKEN not in shown

    monkeypatch.setenv("INGOT_TOKEN", "secret-of-the-variable")
    main(["config", "show", "--json"])
    token = json.loads(capsys.readouterr().out)["token"]
    assert token == {"value": "(hidden)", "from": "INGOT_TOKEN"}


def test_a_token_is_read_from_stdin_so_that_no_history_has_it(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TOKEN}\n"))

    main(["config", "set", "token"])

    assert read_config(config_path(environment)) == {"token": TOKEN}


def test_what_was_set_is_unset(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ä ca.pem").write_text(tls.CERTIFICATE)
    main(["config", "set", "ca", str(tmp_path / "ä ca.pem")])
    assert read_config(config_path(environment)) == {"ca": str(tmp_path / "ä ca.pem")}

    assert main(["config", "unset", "ca"]) == main(["config", "unset", "token"]) == 0
    assert read_config(config_path(environment)) == {}


@pytest.mark.parametrize(
    "text", ['server = "', "sever = 'x'", "server = 1", "server = 'http://x'"], ids=ascii
)
def test_a_file_that_is_not_valid_is_named(environment: dict[str, str], text: str) -> None:
    path = config_path(environment)
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(ConfigError, match=str(path)):
        settings(environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ["server", "http://host"],
        ["server"],
        ["server", ""],
        ["token", "a b"],
        ["ca", "missing.pem"],
        ["colour", "red"],
    ],
    ids=ascii,
)
def test_a_value_that_is_not_valid_is_not_stored(
    environment: dict[str, str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["config", "set", *arguments])

    assert exit_.value.code == 2
    assert not config_path(environment).exists()


def test_headers_may_precede_and_follow_the_command() -> None:
    options = build_parser().parse_args(["--header", "a:b", "jobs", "--header", "c: d:e"])

    assert [*options.first_headers, *options.headers] == [("a", "b"), ("c", "d:e")]
