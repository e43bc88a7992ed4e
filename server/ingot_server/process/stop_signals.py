"""Which signals stop a process of Ingot: the same ones in every command."""

from __future__ import annotations

import signal


def stop_signals() -> list[signal.Signals]:
    """Return SIGTERM, SIGINT and SIGHUP; call it before handlers are installed.

    SIGHUP is missing if it was ignored when the process began: `nohup` keeps it running after the
    terminal is closed.
    """
    found = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found
