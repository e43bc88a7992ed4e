"""The health service of gRPC, for callers that may use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from grpc_health.v1 import health

RequireCaller: TypeAlias = Callable[[str, Any], Awaitable[None]]
"""Takes the name of a service, as in the setting `open_services`, and the context of a call of it.

It aborts the call if its caller may not make it.
"""

_NAME: Final = "health"


class GuardedHealth(health.aio.HealthServicer):
    """The health of services, behind `require`."""

    def __init__(self, require: RequireCaller) -> None:
        super().__init__()
        self._require = require

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's
        await self._require(_NAME, context)
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        await self._require(_NAME, context)
        await super().Watch(request, context)
