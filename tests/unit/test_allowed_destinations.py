"""INGOT_EGRESS_ALLOW: what may be reached although it is private."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ingot_server.allowed_destinations import parse_allowed_destinations
from ingot_server.config import Settings
from ingot_server.setting_values import SettingError


def test_hosts_have_ports_and_networks_hold_all_addresses_of_a_name() -> None:
    allowed = parse_allowed_destinations("Whisper.lan:9000, [fd00::1]:80,10.0.0.0/8,fd00::/8")

    assert allowed.names("whisper.lan", 9000)
    assert allowed.names("fd00::1", 80)
    assert not allowed.names("whisper.lan", 80)
    assert allowed.contains_all([ip_address("10.1.2.3"), ip_address("fd00::2")])
    assert not allowed.contains_all([ip_address("10.1.2.3"), ip_address("192.168.0.1")])
    assert not allowed.contains_all([])
    assert not parse_allowed_destinations("").names("whisper.lan", 9000)


@pytest.mark.parametrize("text", ["whisper.lan", "10.0.0.1/8", "http://whisper.lan:9000"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="INGOT_EGRESS_ALLOW="):
        Settings.from_environment({"INGOT_EGRESS_ALLOW": text})


@pytest.mark.parametrize("url", ["api.example", "https://api.example", "https://a:b@host/v1"])
def test_an_endpoint_is_a_url_without_credentials(url: str) -> None:
    with pytest.raises(SettingError, match="INGOT_TRANSCRIPTION_URL="):
        Settings.from_environment({"INGOT_TRANSCRIPTION_URL": url})
