"""Landlock: what the kernel lets this process reach in the file system, by TCP and by signals.

The interface is that of https://docs.kernel.org/userspace-api/landlock.html, called by ctypes:
three system calls with the same numbers on all machines. The package `landlock` of PyPI is a
pre-release of 2025, and the launcher of a child runs without packages anyway. Each version has what
the one before has:

    1  Linux 5.13  files          4  Linux 6.7   TCP ports
    2  Linux 5.19  moving files   5  Linux 6.10  ioctl on devices
    3  Linux 6.2   truncation     6  Linux 6.12  signals and abstract Unix sockets
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1 << 0
_PATH_BENEATH: Final = 1
_NET_PORT: Final = 2

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_DIR: Final = 1 << 7
_MAKE_REG: Final = 1 << 8
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_READ: Final = _READ_FILE | _READ_DIR
_WRITE: Final = (
    (_READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG) | _REFER | _TRUNCATE
)
_FILE_RIGHTS: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_OR_CONNECT: Final = 1 << 0 | 1 << 1
_CONNECT: Final = 1 << 1
_SCOPES: Final = 1 << 0 | 1 << 1

# How many rights over files each version knows.
_FILE_RIGHTS_OF_VERSION: Final = {1: 13, 2: 14, 3: 15, 4: 15}
FIRST_WITH_TCP: Final = 4
FIRST_WITH_SCOPES: Final = 6


@functools.cache
def version() -> int:
    """Return the version of Landlock that the kernel has; 0 if it has none, or not for us."""
    if sys.platform != "linux":
        return 0
    found: int = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(0, found)


def restrict(
    *,
    reads: Iterable[str] = (),
    writes: Iterable[str] = (),
    executes: Iterable[str] = (),
    ports: Iterable[int] = (),
) -> None:
    """Deny this process, and all that it starts, what is not listed; nothing can undo this.

    `reads`, `writes` and `executes` are files, and directories with all that is in them; what does
    not exist is left out. `ports` are those that it may connect to by TCP. Call it with
    no-new-privileges set, and with one thread. Does nothing if the kernel has no Landlock. Raises
    OSError.
    """
    ruleset = make_ruleset(reads=reads, writes=writes, executes=executes, ports=ports)
    if ruleset is not None:
        enforce(ruleset)


def make_ruleset(
    *,
    reads: Iterable[str] = (),
    writes: Iterable[str] = (),
    executes: Iterable[str] = (),
    ports: Iterable[int] = (),
) -> int | None:
    """Return a descriptor of what `restrict` allows, for `enforce`; None without Landlock.

    Children that are forked have it, too.
    """
    found = version()
    if not found:
        return None
    handled = (1 << _FILE_RIGHTS_OF_VERSION.get(found, 16)) - 1
    ruleset = _new_ruleset(handled, ports)
    try:
        for paths, rights in (
            (reads, _READ),
            (writes, _WRITE),
            (executes, _READ | _EXECUTE),
        ):
            for path in paths:
                _allow_path(ruleset, path, rights & handled)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def enforce(ruleset: int) -> None:
    """Restrict this process as `restrict` does, and close the descriptor."""
    try:
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def restrict_connections(ports: Iterable[int] | None) -> None:
    """Deny this process, and all that it starts, signals, servers, and TCP ports but `ports`.

    None means all ports. It is `restrict` without files: does nothing where the kernel lacks it,
    and raises OSError.
    """
    if version() >= FIRST_WITH_SCOPES:
        enforce(_new_ruleset(0, ports))


def _new_ruleset(handled: int, ports: Iterable[int] | None) -> int:
    """Return a new ruleset for these rights over files, and for the ports."""
    net = _BIND_OR_CONNECT if version() >= FIRST_WITH_TCP and ports is not None else 0
    scopes = _SCOPES if version() >= FIRST_WITH_SCOPES else 0
    fields = (handled, net, scopes)[: 3 if scopes else 2 if net else 1]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for port in ports or () if net else ():
            rule = struct.pack("=QQ", _CONNECT, port)
            _call(_ADD_RULE, ruleset, _NET_PORT, rule, 0)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _FILE_RIGHTS
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _call(*arguments: object) -> int:
    result: int = _libc().syscall(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
