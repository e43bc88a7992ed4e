"""`ingot-server health`: whether what runs in this container is well, for probes.

An API server is healthy if its own health service says so. For a process without one, such as a
worker, its heartbeat has to do.
"""

from __future__ import annotations

from pathlib import Path

from ingot_server.config import Settings
from ingot_server.heartbeat import Unhealthy, require_heartbeat


def require_health(settings: Settings, *, live: bool) -> None:
    """Check the process whose heartbeat is in the settings' file, or the server at their address.

    With `live`, only the heartbeat counts, which does not depend on Redis and S3. Raises Unhealthy.
    """
    grpc_address = settings.grpc_address
    if settings.heartbeat_file:
        grpc_address = require_heartbeat(Path(settings.heartbeat_file))
    elif live:
        raise Unhealthy("INGOT_HEARTBEAT_FILE is not set, so nothing shows that a process lives.")
    if grpc_address and not live:
        # Imported here: gRPC would double the processor time of a probe for liveness.
        from ingot_server.serving import require_serving

        require_serving(grpc_address, settings)
