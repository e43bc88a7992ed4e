"""What a child that reads untrusted bytes may still do: the order in which it loses the rest.

    no network -> a user of its own -> no-new-privileges -> few processes -> Landlock -> seccomp

- It reads the system's libraries, Python's, and the files that it is given; it writes to the
  directories of its job, and nowhere else (landlock.py).
- It makes no sockets, or only TCP ones, to the guard (landlock.py from Linux 6.7 on). Without
  sockets, it is in an empty network namespace (privileges.py). An extraction is in one where only
  the guard listens (network_namespace.py).
- It traces no process, and signals none that is not its own (landlock.py, seccomp.py).
- Its processes are counted, and cannot leave its process group (privileges.py, seccomp.py).

What the kernel does not have is left out, and `shortcomings` says so. All holds for what the child
starts. Only the standard library is imported here: launch.py runs without any package.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ingot_server.process import landlock, network_namespace, privileges, seccomp

# What programs and libraries of the system read. No secrets are below these.
_SYSTEM: Final = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ssl", "/etc/pki"),
    *("/etc/ca-certificates", "/etc/crypto-policies", "/etc/fonts", "/etc/localtime"),
    *("/etc/mime.types", "/etc/nsswitch.conf", "/etc/hosts", "/etc/alternatives"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys", "/proc/filesystems"),
    *("/sys/devices/system/cpu", "/sys/fs/cgroup"),
)
_DEVICES: Final = ("/dev/null",)
# The dynamic linker, which starts every program, and interpreters of scripts.
_SYSTEM_PROGRAMS: Final = ("/usr", "/lib", "/lib64", "/bin", "/nix/store", "/gnu/store")


class Confinement(NamedTuple):
    """What one child may do. All paths are absolute; what does not exist is left out."""

    reads: Sequence[str] = ()
    """Files, and directories with all that is in them."""
    writes: Sequence[str] = ()
    """Files, and directories in which it may make, change and remove all but special files."""
    programs: Sequence[str] = ()
    """Programs that it may start, and others of their directories, which a script may need.

    Without any, it cannot fork either.
    """
    ports: Sequence[int] = ()
    """The TCP ports that it may connect to; without any, it makes no sockets."""


def confine(confinement: Confinement) -> None:
    """Take from this process, and from all that it starts, what `confinement` does not name.

    Call it with one thread. Nothing happens on other systems than Linux. Raises OSError.
    """
    if sys.platform != "linux":
        return
    spared = list(_ancestors())
    privileges.drop(network=bool(confinement.ports))
    landlock.restrict(
        reads=(*_SYSTEM, *_python(), *_libraries(confinement.programs), *confinement.reads),
        writes=(*_DEVICES, *confinement.writes),
        executes=(*_SYSTEM_PROGRAMS, *_python(), *_directories(confinement.programs))
        if confinement.programs
        else (),
        ports=confinement.ports,
    )
    seccomp.install(
        network=bool(confinement.ports), forks=bool(confinement.programs), spared=spared
    )


class PreparedConfinement:
    """What `confine` does, as far as it can be done once, before children are forked.

    They get a network namespace that they share, in which there is nothing: the process that is
    prepared leaves the machine's network. What a child is to read it opens before it calls `enter`.
    """

    def __init__(self) -> None:
        """Prepare this process, which has one thread. Raises OSError."""
        if sys.platform != "linux":
            return
        # Where the kernel refuses that, seccomp.py still refuses sockets.
        with contextlib.suppress(OSError):
            privileges.enter_network_namespace(_do_nothing)
        self._ruleset = landlock.make_ruleset(reads=(*_SYSTEM, *_python()), writes=_DEVICES)

    def enter(self) -> None:
        """Confine this process, the prepared one or a child. Raises OSError."""
        if sys.platform != "linux":
            return
        spared = list(_ancestors())
        privileges.drop(network=True)
        if self._ruleset is not None:
            landlock.enforce(self._ruleset)
        seccomp.install(network=False, forks=False, spared=spared)


def _do_nothing() -> None:
    """Leave a new network namespace as it is."""


def confine_parent(ports: Sequence[int] | None) -> None:
    """Take from a process that children are forked from what neither it nor they need.

    `ports` are the TCP ports that the children may connect to; None means that it is not known
    which. They can still confine themselves, so files stay as they are. Call it with one thread.
    Nothing happens on other systems than Linux. Raises OSError.
    """
    if sys.platform != "linux":
        return
    spared = list(_ancestors())
    privileges.drop_all_but_those_of_drop()
    landlock.restrict_connections(ports)
    seccomp.install(network=ports is None or bool(ports), forks=True, drops=True, spared=spared)


def shortcomings() -> list[str]:
    """Return in sentences what this machine's kernel lacks; empty if a child is confined fully."""
    if sys.platform != "linux":
        return ["Only Linux can confine the processes that read media."]
    found = []
    version = landlock.version()
    if not version:
        found.append(
            "The kernel has no Landlock, so the processes that read media can read and write every "
            "file that this user can."
        )
    if not network_namespace.is_available():
        reached = "one port" if version >= landlock.FIRST_WITH_TCP else "the servers"
        found.append(
            "No network namespace can be made here, so an extraction that was taken over could "
            f"connect to {reached} of every machine in this network, and not only to the guard."
        )
    if version < landlock.FIRST_WITH_SCOPES and os.getuid() != 0:
        found.append(
            "The kernel has no Landlock for signals (Linux 6.12), so the processes that read media "
            "could end other processes of this user."
        )
    if not seccomp.is_supported():
        found.append("There is no filter of system calls for this kind of machine.")
    return found


def _python() -> Iterator[str]:
    """Return where Python's own files and packages are."""
    return filter(None, (sys.prefix, sys.base_prefix, *sys.path))


def _directories(programs: Sequence[str]) -> Iterator[str]:
    """Yield where the programs are."""
    return (os.path.dirname(os.path.realpath(program)) for program in programs)


def _libraries(programs: Sequence[str]) -> Iterator[str]:
    """Yield where the libraries of a program may be that is not the system's."""
    for place in _directories(programs):
        yield place
        yield os.path.join(os.path.dirname(place), "lib")


def _ancestors() -> Iterator[int]:
    """Yield the numbers of this process' ancestors but the first process."""
    pid = os.getppid()
    while pid > 1:
        yield pid
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            return
