"""The user of a child: without privileges, and with a count of processes of its own.

Started by root, a child becomes a user whom nothing else belongs to. It keeps one capability, to
open files whoever owns them, as Landlock says which these are: its job's files belong to root.

Started by another user, it stays that user, in a user namespace of its own, because the kernel
counts processes for each user and namespace (from Linux 5.14 on). Without namespaces, what it may
start comes on top of what the user runs.

A child that needs no network gets a network namespace in which there is nothing, which costs less
than a millisecond. Where the kernel refuses that, seccomp.py still refuses it sockets.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
from collections.abc import Callable, Iterator
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
_CAPABILITY_VERSION: Final = 0x20080522
_CAP_DAC_OVERRIDE: Final = 1
_LAST_CAPABILITY: Final = 63
_CAP_SETGID: Final = 6
_CAP_SETUID: Final = 7
_CAP_SETPCAP: Final = 8
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
# Numbers that no distribution gives away (systemd, UIDS-GIDS.md). A container may not have those
# above 65536; there, they are the ones that systemd gives to services while they run.
_USERS: Final = ((1_900_000_000, 1 << 22), (61_184, 4_336))
# Deno has a thread for each processor, and ffmpeg has for each of its decoders and encoders.
_PROCESSES: Final = 256
_PROCESSES_PER_PROCESSOR: Final = 32


def drop(*, network: bool) -> None:
    """Give up every privilege, and limit how many processes may be started. Raises OSError.

    Without `network`, also leave the machine's network, if the kernel allows it. If this process is
    to die with its parent, it still does.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    limit = _PROCESSES + _PROCESSES_PER_PROCESSOR * (os.cpu_count() or 1)
    with _dying_with_parent(libc):
        if os.geteuid() == 0:
            if not network:
                libc.unshare(_CLONE_NEWNET)
            _become_another_user(libc)
        elif not _enter_counted_namespace(libc, network=network):
            limit += _running(os.getuid())
    _refuse_new_privileges(libc)
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def drop_all_but_those_of_drop() -> None:
    """Give up every privilege that `drop` does not need in the children that are forked from here.

    If this process is to die with its parent, it still does. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        needed = (_CAP_DAC_OVERRIDE, _CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP)
        for capability in range(_LAST_CAPABILITY + 1):
            if capability not in needed:
                libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        with _dying_with_parent(libc):
            _set_capabilities(libc, _permitted(libc) & sum(1 << each for each in needed))
    _refuse_new_privileges(libc)


def enter_network_namespace(prepare: Callable[[], None]) -> None:
    """Leave the machine's network for an empty one, which `prepare` may change. Raises OSError.

    A user who may not make one does so in a user namespace, in which it is the same user. Its
    privileges there end with `prepare`. If this process is to die with its parent, it still does.
    Call it with one thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with _dying_with_parent(libc):
        if os.geteuid() == 0:
            if libc.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "no network namespace can be made")
            prepare()
            return
        if not _unshare_user(libc, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no user namespace can be made")
        prepare()
        _set_capabilities(libc, 0)


@contextlib.contextmanager
def _dying_with_parent(libc: ctypes.CDLL) -> Iterator[None]:
    """Keep what is to happen when the parent dies; the kernel forgets it when the user changes."""
    parent, at_death = os.getppid(), ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(at_death), 0, 0, 0)
    yield
    libc.prctl(_PR_SET_PDEATHSIG, at_death, 0, 0, 0)
    if at_death.value and os.getppid() != parent:
        os._exit(1)


def _refuse_new_privileges(libc: ctypes.CDLL) -> None:
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no-new-privileges cannot be set")


def _become_another_user(libc: ctypes.CDLL) -> None:
    for capability in range(_LAST_CAPABILITY + 1):
        if capability != _CAP_DAC_OVERRIDE:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    # Otherwise access(2) denies what open(2) allows, because it looks at the real user without
    # capabilities. yt-dlp asks it whether there are cookies.
    libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    for first, count in _USERS:
        user = first + os.getpid() % count
        # A container may have neither that user nor the right to become it.
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            break
    kept = 1 << _CAP_DAC_OVERRIDE
    if _set_capabilities(libc, kept):
        # What it starts has it, too.
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
    else:
        _set_capabilities(libc, 0)


def _enter_counted_namespace(libc: ctypes.CDLL, *, network: bool) -> bool:
    """Return whether the kernel counts the processes of this one apart now."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release < (5, 14):
        return False
    if (network or not _unshare_user(libc, _CLONE_NEWNET)) and not _unshare_user(libc):
        return False
    _set_capabilities(libc, 0)
    return True


def _unshare_user(libc: ctypes.CDLL, others: int = 0) -> bool:
    """Enter a user namespace as the same user, and the namespaces `others`; return whether it did.

    In the namespace, this process has all capabilities then.
    """
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | others):
        return False
    with contextlib.suppress(OSError):
        for name, content in (
            ("uid_map", f"{user} {user} 1"),
            ("setgroups", "deny"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(content)
    return True


def _set_capabilities(libc: ctypes.CDLL, kept: int) -> bool:
    """Set the permitted, effective and inheritable capabilities (capset(2))."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    return not libc.capset(header, struct.pack("=6I", *[low] * 3, *[high] * 3))


def _permitted(libc: ctypes.CDLL) -> int:
    """Return the permitted capabilities of this process (capget(2))."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    found = ctypes.create_string_buffer(24)
    libc.capget(header, found)
    words: tuple[int, ...] = struct.unpack("=6I", found.raw)
    return words[1] | words[4] << 32


def _running(user: int) -> int:
    """Return how many threads the processes of `user` have."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count
