"""The system calls that a child may not make: a filter of Linux's seccomp, for x86-64 and ARM64.

A child decodes, parses and talks to the guard. What only an intruder needs is refused with EPERM:
other users, mounts, namespaces, tracing, keys, modules, servers, and kernel interfaces that often
had flaws, such as io_uring and bpf. A process group cannot be left, so the worker can always end
all of it.

The filter is the classic BPF of seccomp(2), whose structures are `struct sock_filter` and `struct
seccomp_data`. It is written here because libseccomp is no part of Python's packages, and is not
installed everywhere.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
# Spelled out, because the launcher of each child imports this module, and `socket` takes long.
_AF_UNIX: Final = 1
_AF_INET: Final = 2
_SOCK_STREAM: Final = 1
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_X32: Final = 0x40000000
# The value of AUDIT_ARCH_... and the column of the table below.
_MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Positions in struct seccomp_data. Of an argument only the lower half is read: all that are
# compared here are of type int, and the kernel, too, ignores the rest.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = (16, 24)

_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_GREATER_OR_EQUAL: Final = 0x35
_JUMP_IF_SET: Final = 0x45
_AND: Final = 0x54
_RETURN: Final = 0x06

_CLONE_THREAD: Final = 0x00010000
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_CLONE_NEW: Final = 0x7E020000
_TYPE: Final = 0xF

# Each call with its numbers on x86-64 and ARM64; -1: the machine does not have it.
# Other processes; users and capabilities; mounts and namespaces; files by other ways than their
# paths; servers; the kernel and the machine.
_REFUSED: Final = """
    ptrace 101 117   process_vm_readv 310 270   process_vm_writev 311 271
    process_madvise 440 440   kcmp 312 272   pidfd_getfd 438 438   pidfd_send_signal 424 424
    rt_sigqueueinfo 129 138   rt_tgsigqueueinfo 297 240   tkill 200 130   move_pages 279 239
    migrate_pages 256 238   sched_setscheduler 144 119   sched_setparam 142 118
    sched_setattr 314 274   setpriority 141 140   ioprio_set 251 30   setpgid 109 154
    setuid 105 146   setgid 106 144   setreuid 113 145   setregid 114 143
    setfsuid 122 151   setfsgid 123 152   add_key 248 217   request_key 249 218
    keyctl 250 219
    mount 165 40   umount2 166 39   pivot_root 155 41   chroot 161 51   move_mount 429 429
    open_tree 428 428   fsopen 430 430   fsconfig 431 431   fsmount 432 432   fspick 433 433
    mount_setattr 442 442   setns 308 268
    open_by_handle_at 304 265   name_to_handle_at 303 264   fanotify_init 300 262
    fanotify_mark 301 263   mknod 133 -1   mknodat 259 33
    bind 49 200   listen 50 201   accept 43 202   accept4 288 242
    bpf 321 280   perf_event_open 298 241   userfaultfd 323 282   io_uring_setup 425 425
    io_uring_enter 426 426   io_uring_register 427 427   kexec_load 246 104
    kexec_file_load 320 294   init_module 175 105   finit_module 313 273
    delete_module 176 106   reboot 169 142   swapon 167 224   swapoff 168 225   acct 163 89
    quotactl 179 60   quotactl_fd 443 443   settimeofday 164 170   clock_settime 227 112
    clock_adjtime 305 266   adjtimex 159 171   sethostname 170 161   setdomainname 171 162
    syslog 103 116   vhangup 153 58   personality 135 92   iopl 172 -1   ioperm 173 -1
    modify_ldt 154 -1   uselib 134 -1
"""
# What a child needs in order to leave its parent's group and to drop its privileges.
_DROPPING: Final = """
    setsid 112 157   setresuid 117 147   setresgid 119 149   setgroups 116 159   capset 126 91
    unshare 272 97
"""
_PROGRAMS: Final = """
    fork 57 -1   vfork 58 -1   execve 59 221   execveat 322 281
"""
_SOCKET: Final = (41, 198)
_SOCKETPAIR: Final = (53, 199)
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_KILL: Final = (62, 129)
_TGKILL: Final = (234, 131)
_PRLIMIT: Final = (302, 261)


class _Instruction(NamedTuple):
    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


def is_supported() -> bool:
    """Return whether the kernel has filters, and there is one for this kind of machine."""
    if sys.platform != "linux" or os.uname().machine not in _MACHINES:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)
    # EINVAL without filters. With them, that there is none at the address 0.
    return ctypes.get_errno() == errno.EFAULT


def install(*, network: bool, forks: bool, drops: bool = False, spared: Sequence[int] = ()) -> None:
    """Refuse this process, and all that it starts, what its work does not need. Cannot be undone.

    With `network` it may make TCP sockets of IPv4; it gets no others. With `forks` it may start
    programs. With `drops`, those that it forks may still drop privileges, into namespaces too. The
    processes `spared` get no signals from it. Call it with no-new-privileges set.
    Does nothing if `is_supported` returns False. Raises OSError.
    """
    if not is_supported():
        return
    code = b"".join(
        struct.pack("=HBBI", each.code, each.if_true, each.if_false, each.value)
        for each in _filter(
            os.uname().machine, network=network, forks=forks, drops=drops, spared=spared
        )
    )
    kept = ctypes.create_string_buffer(code)
    # struct sock_fprog: the number of instructions, and where they are.
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _filter(
    machine: str, *, network: bool, forks: bool, drops: bool, spared: Sequence[int]
) -> list[_Instruction]:
    architecture, column = _MACHINES[machine]
    refused = _numbers(_REFUSED, column)
    if not drops:
        refused += _numbers(_DROPPING, column)
    if not forks:
        refused += _numbers(_PROGRAMS, column)
    found = [
        _Instruction(_LOAD, _ARCHITECTURE),
        _Instruction(_JUMP_IF_EQUAL, architecture, if_true=1),
        _Instruction(_RETURN, _KILL_PROCESS),
        _Instruction(_LOAD, _NUMBER),
        _Instruction(_JUMP_IF_GREATER_OR_EQUAL, _X32, if_false=1),
        _refusal(),
    ]
    for number in refused:
        found += _when(number, [_refusal()])
    # Its flags are behind a pointer. Without it, the C library uses clone.
    found += _when(_CLONE3[column], [_refusal(errno.ENOSYS)])
    found += _when(_CLONE[column], _clone(forks=forks))
    found += _when(_SOCKET[column], _socket(_AF_INET if network else None))
    found += _when(_SOCKETPAIR[column], _socket(_AF_UNIX))
    found += _when(_PRLIMIT[column], [*_only_for_itself(), _Instruction(_RETURN, _ALLOW)])
    # A negative number is a group; only that of the caller, 0, may be named so.
    for call in (_KILL, _TGKILL):
        found += _when(call[column], _signal(spared))
    return [*found, _Instruction(_RETURN, _ALLOW)]


def _numbers(table: str, column: int) -> list[int]:
    """Return the numbers of the calls that the machine has."""
    return [number for number in map(int, table.split()[1 + column :: 3]) if number >= 0]


def _when(number: int, body: Sequence[_Instruction]) -> list[_Instruction]:
    """Return code that runs `body`, which ends with a return, for one system call."""
    return [_Instruction(_JUMP_IF_EQUAL, number, if_false=len(body)), *body]


def _refusal(number: int = errno.EPERM) -> _Instruction:
    return _Instruction(_RETURN, _ERRNO | number)


def _clone(*, forks: bool) -> list[_Instruction]:
    body = [
        _Instruction(_LOAD, _ARGUMENTS[0]),
        _Instruction(_JUMP_IF_SET, _CLONE_NEW, if_false=1),
        _refusal(),
    ]
    if not forks:
        body += [_Instruction(_JUMP_IF_SET, _CLONE_THREAD, if_true=1), _refusal()]
    return [*body, _Instruction(_RETURN, _ALLOW)]


def _socket(family: int | None) -> list[_Instruction]:
    if family is None:
        return [_refusal()]
    return [
        _Instruction(_LOAD, _ARGUMENTS[0]),
        _Instruction(_JUMP_IF_EQUAL, family, if_false=4),
        _Instruction(_LOAD, _ARGUMENTS[1]),
        _Instruction(_AND, _TYPE),
        _Instruction(_JUMP_IF_EQUAL, _SOCK_STREAM, if_false=1),
        _Instruction(_RETURN, _ALLOW),
        _refusal(),
    ]


def _only_for_itself() -> list[_Instruction]:
    return [
        _Instruction(_LOAD, _ARGUMENTS[0]),
        _Instruction(_JUMP_IF_EQUAL, 0, if_true=1),
        _refusal(),
    ]


def _signal(spared: Sequence[int]) -> list[_Instruction]:
    body = [
        _Instruction(_LOAD, _ARGUMENTS[0]),
        _Instruction(_JUMP_IF_SET, 1 << 31, if_false=1),
        _refusal(),
    ]
    for pid in spared:
        body += [_Instruction(_JUMP_IF_EQUAL, pid, if_false=1), _refusal()]
    return [*body, _Instruction(_RETURN, _ALLOW)]
