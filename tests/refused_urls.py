"""What the refusal of a URL says when no source accepts it."""

from __future__ import annotations

import pytest

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources import pick


def assert_refused_with_what_to_do(url: str, problem: str) -> None:
    with pytest.raises(Failure) as caught:
        pick(url)
    assert caught.value.reason == reason_pb2.REASON_INVALID_REQUEST
    assert problem in caught.value.message
    assert problem in caught.value.violations["url"]
    assert len(caught.value.message) < 200
