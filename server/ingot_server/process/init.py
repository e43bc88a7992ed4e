"""Process 1 of a container: it passes signals on and reaps what other processes leave.

The kernel makes process 1 the parent of every process whose own parent has died. If nobody waits
for these, they stay in the table of processes until it is full.
"""

from __future__ import annotations

import os
import signal
from typing import Final

_PASSED_ON: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
# signal(7): the kernel has sent it, as for Ctrl-C. It has sent it to the child, too.
_SI_KERNEL: Final = 0x80


def continue_as_child_of_init() -> None:
    """If this is process 1, return in a child of it. Call it before there are threads."""
    if os.getpid() != 1:
        return
    # They wait until they are asked for, so none is lost before the child exists.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        found = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        if found.si_signo == signal.SIGCHLD:
            _reap(child)
        elif found.si_code != _SI_KERNEL:
            os.kill(child, found.si_signo)


def _reap(child: int) -> None:
    """Wait for all that has ended; end as `child` did, if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
