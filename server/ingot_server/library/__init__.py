"""What is stored: identities, manifests and blobs."""

import sys
from types import ModuleType

# The SDK would load its client for administrators of MinIO, whose ciphers take 3 MiB of each
# process and a tenth of a second of its start. Nothing here uses it.
_administration = ModuleType("minio.minioadmin")
vars(_administration)["MinioAdmin"] = None
sys.modules.setdefault(_administration.__name__, _administration)
