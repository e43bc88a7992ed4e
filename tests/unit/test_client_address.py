"""Addresses of servers, and what may be sent to them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ingot import Client
from ingot.access import call_metadata
from ingot.address import Address, parse_address
from tests import tls


@pytest.mark.parametrize(
    ("text", "target", "is_tls", "is_local"),
    [
        ("localhost", "localhost:50051", False, True),
        ("localhost:1", "localhost:1", False, True),
        ("ingot.example.com", "ingot.example.com:50051", False, False),
        ("my_server:8080", "my_server:8080", False, False),
        ("10.0.0.7:50051", "10.0.0.7:50051", False, False),
        ("127.1.2.3", "127.1.2.3:50051", False, True),
        ("::1", "[::1]:50051", False, True),
        ("[::1]:7", "[::1]:7", False, True),
        ("[2001:db8::1]", "[2001:db8::1]:50051", False, False),
        ("ingot://server", "server:50051", False, False),
        ("ingot://server:9/", "server:9", False, False),
        ("ingot://[::1]:9", "[::1]:9", False, True),
        ("https://ingot.example.com", "ingot.example.com:443", True, False),
        ("HTTPS://ingot.example.com:8443/", "ingot.example.com:8443", True, False),
        ("https://[2001:db8::1]", "[2001:db8::1]:443", True, False),
        ("unix:/run/ingot", "unix:/run/ingot", False, True),
    ],
)
def test_an_address_is_read(text: str, target: str, is_tls: bool, is_local: bool) -> None:
    assert parse_address(text) == Address(target, tls=is_tls, is_local=is_local)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        ":50051",
        "host:",
        "host:port",
        "host:0",
        "host:65536",
        "a host:1",
        "host:1:2",
        "[::1",
        "[host]:1",
        "http://host",
        "ftp://host",
        "https://",
        "https://host/path",
        "https://user@host",
        "https://host?x",
        "host/",
    ],
)
def test_what_is_not_an_address_is_refused_when_the_client_is_made(text: str) -> None:
    with pytest.raises(ValueError, match=r"https://HOST|ingot://HOST|between 1 and 65535"):
        Client(text)


def metadata(address: str, token: str = "", **headers: str) -> dict[str, str]:
    place = parse_address(address)
    return call_metadata(place, headers, token, encrypted=place.tls, plaintext=False)


def test_a_token_is_sent_as_a_bearer() -> None:
    for address in "https://example.com", "localhost", "unix:/run/ingot":
        assert metadata(address, "abc", Team="a b") == {
            "authorization": "Bearer abc",
            "team": "a b",
        }


def test_a_token_leaves_this_machine_only_encrypted_or_if_that_is_allowed() -> None:
    with pytest.raises(ValueError, match="not encrypted"):
        Client("example.com", token="abc")

    Client("example.com", token="abc", allow_plaintext_token=True)
    Client("https://example.com", token="abc")
    Client("[::1]:50051", token="abc")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": "a b"}, "no spaces"),
        ({"token": "a", "metadata": {"Authorization": "b"}}, "either a token"),
        ({"metadata": {"a b": "c"}}, "'a b' is not the name of a header"),
        ({"metadata": {"grpc-timeout": "c"}}, "grpc-"),
        ({"metadata": {"trace-bin": "c"}}, "-bin"),
        ({"metadata": {"a": "\n"}}, "printable ASCII"),
        ({"ca_file": "authority.pem"}, "without TLS"),
        ({"certificate_file": "client.pem"}, "without TLS"),
        ({"address": "https://host", "key_file": "key.pem"}, "without its certificate"),
    ],
)
def test_arguments_that_cannot_work_are_refused_when_the_client_is_made(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Client(**arguments)


def test_a_file_without_authorities_is_refused(tmp_path: Path) -> None:
    (tmp_path / "good.pem").write_text(tls.CERTIFICATE)
    (tmp_path / "bad.pem").write_text("junk")
    (tmp_path / "empty.pem").write_text("")

    Client("https://host", ca_file=tmp_path / "good.pem")
    for name in "bad.pem", "empty.pem":
        with pytest.raises(ValueError, match=re.escape(f"{name} has no certificates")):
            Client("https://host", ca_file=tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Client("https://host", ca_file=tmp_path / "missing.pem")
