"""JSON that another program wrote."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError for whatever is not JSON, or nested too deeply to be read.

    For the latter, `json.loads` raises RecursionError, which its callers do not catch.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
