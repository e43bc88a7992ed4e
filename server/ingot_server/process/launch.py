"""Becomes another program, bounded: the first thing that runs in every child process.

    python -I -S launch.py PARENT_PID LIMITS PROGRAM ARGUMENT...

LIMITS is a JSON object of resource names (`RLIMIT_AS`) and numbers. They are set here, in the new
process, because code between fork and exec (`preexec_fn`) can deadlock in a parent with threads.
The process also asks to be killed when its parent dies, which outlives the exec (prctl(2)).
Imports nothing but the standard library, so that it costs 12 ms.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main(parent: str, limits: str, program: str, *arguments: str) -> None:
    """Never returns: the process is `program` afterwards, or has ended with an error."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):
            os._exit(1)  # It died before the request was heard.
    for restored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(restored, signal.SIG_DFL)  # Python ignores them, and exec keeps that.
    for name, value in json.loads(limits).items():
        kind = getattr(resource, name)
        inherited = resource.getrlimit(kind)[1]
        soft = value if inherited == resource.RLIM_INFINITY else min(value, inherited)
        # Past the soft limit of CPU time comes SIGXCPU, which tells why; past the hard one SIGKILL.
        hard = soft + 1 if kind == resource.RLIMIT_CPU and soft != inherited else soft
        resource.setrlimit(kind, (soft, hard))
    os.execv(program, [program, *arguments])  # noqa: S606 - typed arguments, no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
