"""The caller that measurements of calls make: known by a token, and limited in everything.

No limit is reached, so what is measured is what authentication and quotas cost.
"""

from __future__ import annotations

from typing import Final

from ingot_server.access_tokens import SCOPES, entry, new_token

_PLENTY: Final = 10_000_000

TOKEN: Final = new_token()
HEADER: Final = f"Bearer {TOKEN}"
METADATA: Final = (("authorization", HEADER),)
_LIMITS: Final = {
    **dict.fromkeys(("calls", "jobs", "queued_jobs", "running_jobs", "watches"), str(_PLENTY)),
    **dict.fromkeys(("daily_bytes", "stored_bytes"), "100TiB"),
}
SETTINGS: Final = {"tokens": entry(TOKEN, "measurement", sorted(SCOPES), None, _LIMITS)}
"""Settings of a server that asks who calls, and knows this caller."""
