"""The tenant whose media the running call or job is about.

With INGOT_CACHE_SHARING `shared` there is one cache for all callers, and no tenants. With `private`
each caller with a name is a tenant: the ids of its media items cover its name, so that nothing of
one tenant is found, joined or replaced by another.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from ingot.v1.media_pb2 import Media

TENANT: Final[ContextVar[str]] = ContextVar("TENANT", default="")
"""The name of the tenant. Empty if all callers share one cache."""


def belongs_to_tenant(media: Media) -> bool:
    """Return whether the running call or job may use a media item for what it makes."""
    tenant = TENANT.get()
    return not tenant or media.owner == tenant
