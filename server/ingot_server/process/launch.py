"""The launcher: the first thing that runs in every child process; it then becomes the program.

    python -I -S launch.py PARENT_PID LIMITS CONFINEMENT PROGRAM ARGUMENT...

LIMITS is a JSON object of resource names (`RLIMIT_AS`) and numbers, perhaps an empty one. The
launcher sets them in the new process, because code between fork and exec (`preexec_fn`) can
deadlock in a parent with threads. On Linux it also asks the kernel to kill the process when its
parent dies, which stays in force after the exec (prctl(2)). CONFINEMENT is a JSON list, the fields
of a `Confinement`, or null. It imports only the standard library and what confines, so it costs
15 ms.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ingot_server.process.confinement import Confinement

_PR_SET_PDEATHSIG: Final = 1
_UNLIMITED: Final[Mapping[str, int]] = MappingProxyType({})


def launch_command(
    program: str,
    *arguments: str,
    rlimits: Mapping[str, int] = _UNLIMITED,
    confinement: Confinement | None = None,
) -> tuple[str, ...]:
    """Return the command line that runs `program`, an absolute path, as a child of this process.

    Without `rlimits` the child has the limits of this process, and without `confinement` it may do
    what this process may.
    """
    launcher = (sys.executable, "-I", "-S", __file__, str(os.getpid()))
    return (*launcher, json.dumps(dict(rlimits)), json.dumps(confinement), program, *arguments)


def main(parent: str, limits: str, confinement: str, program: str, *arguments: str) -> None:
    """Become `program`, or end the process with an error. Never returns."""
    die_with_parent(int(parent))
    for restored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(restored, signal.SIG_DFL)  # Python ignores them, and exec keeps that.
    set_limits(json.loads(limits))
    if fields := json.loads(confinement):
        confine_to(fields)
    os.execv(program, [program, *arguments])  # noqa: S606 - typed arguments, no shell


def confine_to(fields: Sequence[Sequence[Any]]) -> None:
    """Confine this process as the Confinement with these `fields` says."""
    # Packages are not on the path of modules, with -S.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    from ingot_server.process.confinement import Confinement, confine

    confine(Confinement(*fields))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # The parent died before the call of prctl.


def set_limits(limits: Mapping[str, int]) -> None:
    """Limit this process: names of resources, such as `RLIMIT_AS`, and numbers."""
    for name, value in limits.items():
        kind = getattr(resource, name)
        inherited = resource.getrlimit(kind)[1]
        soft = value if inherited == resource.RLIM_INFINITY else min(value, inherited)
        # Past the soft limit of CPU time the kernel sends SIGXCPU, which names the cause; past the
        # hard limit it sends SIGKILL.
        hard = soft + 1 if kind == resource.RLIMIT_CPU and soft != inherited else soft
        resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    main(*sys.argv[1:])
