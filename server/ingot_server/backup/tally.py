"""What a copy has done so far, and in words at its end."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of media items, unless said otherwise. `add_bytes` may be called from any thread."""

    total: int = 0
    """Those that the source has."""
    done: int = 0
    """Those that were looked at."""
    copied: int = 0
    unchanged: int = 0
    newer: int = 0
    """Those that were changed at the destination, and stay."""
    expired: int = 0
    not_chosen: int = 0
    adopted: int = 0
    """Those of the copied ones whose file is an object of somebody else."""
    problems: int = 0
    size_bytes: int = 0
    """Bytes of files that were copied."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_bytes(self, count: int) -> None:
        """Count bytes that were copied."""
        with self._lock:
            self.size_bytes += count

    def summary(self, *, dry_run: bool) -> list[str]:
        """Return the lines that say at the end what was done."""
        verb = "To copy" if dry_run else "Copied"
        size = "" if dry_run else f" with {self.size_bytes} bytes"
        lines = [f"{verb}: {self.copied} media items{size}. Already there: {self.unchanged}."]
        for count, text in (
            (self.newer, "changed at the destination since; they were left as they are"),
            (self.expired, "past their expire_time; they were left out"),
            (self.adopted, "made of objects in buckets of others, which were not copied"),
        ):
            if count:
                lines.append(f"{count} media items are {text}.")
        if self.problems:
            lines.append(
                f"{self.problems} could not be copied, as said above. Ingest damaged ones again, "
                "or restore their files from another copy; then run the same command again."
            )
        return lines
