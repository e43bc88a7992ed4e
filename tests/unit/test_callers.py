"""Who a caller is, and whether it has quotas."""

from __future__ import annotations

import pytest

from ingot_server.api.caller import Caller


@pytest.mark.parametrize(
    ("caller", "key", "is_limited"),
    [
        (Caller("ipv4:127.0.0.1:40000"), "127.0.0.1", False),
        (Caller("ipv6:%5B::1%5D:40000"), "::/64", False),
        (Caller("unix:"), "unix", False),
        (Caller("ipv4:203.0.113.9:40000"), "203.0.113.9", True),
        (Caller("ipv6:%5B2001:db8::7%5D:40000"), "2001:db8::/64", True),
        (Caller("ipv6:[2001:db8::8]:40000"), "2001:db8::/64", True),
        (Caller("ipv6:%5Bfe80::8%25eth0%5D:40000"), "fe80::/64", True),
        (Caller("ipv6:%5B::ffff:203.0.113.9%5D:40000"), "203.0.113.9", True),
        (Caller("ipv4:127.0.0.1:40000", "recorder"), "recorder", True),
    ],
)
def test_a_caller_without_a_name_on_this_machine_has_no_quota(
    caller: Caller, key: str, is_limited: bool
) -> None:
    assert (caller.key, caller.is_limited) == (key, is_limited)
