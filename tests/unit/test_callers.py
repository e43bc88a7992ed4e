"""Who a caller is, and where."""

from __future__ import annotations

import pytest

from ingot_server.api.caller import Caller


@pytest.mark.parametrize(
    ("caller", "key", "is_local"),
    [
        (Caller("ipv4:127.0.0.1:40000"), "127.0.0.1", True),
        (Caller("ipv6:%5B::1%5D:40000"), "::/64", True),
        (Caller("unix:"), "unix", True),
        (Caller("ipv4:203.0.113.9:40000"), "203.0.113.9", False),
        (Caller("ipv6:%5B2001:db8::7%5D:40000"), "2001:db8::/64", False),
        (Caller("ipv6:[2001:db8::8]:40000"), "2001:db8::/64", False),
        (Caller("ipv6:%5Bfe80::8%25eth0%5D:40000"), "fe80::/64", False),
        (Caller("ipv6:%5B::ffff:203.0.113.9%5D:40000"), "203.0.113.9", False),
        (Caller("ipv4:127.0.0.1:40000", "recorder"), "recorder", True),
    ],
)
def test_a_caller_is_counted_by_its_name_or_else_by_its_network(
    caller: Caller, key: str, is_local: bool
) -> None:
    assert (caller.key, caller.is_local) == (key, is_local)
