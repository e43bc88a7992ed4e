"""The program that is ready to run another one: it forks a child for each request of the worker.

    python -I fork_server_main.py NETWORK PROGRAM ARGUMENT...

PROGRAM is a Python file with the functions `prepare` and `serve`. It is imported and prepared here,
once; each child then calls `serve`, which ends the process. Nothing runs in this process but its
one loop: it has no threads, reads nothing that a job made, and its only connection is that to the
worker, standard input. Each child closes that at once. NETWORK is a
JSON object: "ports" are the TCP ports that children connect to, null if that is not known; if "own"
is true, this process leaves the machine's network after its imports (network_namespace.py), and
sends the worker listeners on these ports. Then it gives up what neither it nor its children need
(confinement.py).

    message    {"listening": ...}, their number, with these listeners; first, and only if "own"
    request    {"number": ..., "limits": {...}} with two descriptors: standard input and output of
               the child, and its standard error
    response   {"number": ..., "pid": ...} by the child, when it is in its own process group
    response   {"number": ..., "code": ...} when it has ended: the exit code, or minus the signal
    response   {"number": ..., "error": ...} if it could not be forked

The worker's end of the connection closes, also when it dies: then this process ends, and the kernel
ends its children with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from ingot_server.process.confinement import confine_parent
from ingot_server.process.launch import die_with_parent, set_limits
from ingot_server.process.network_namespace import enter

_MESSAGE_BYTES: Final = 4096
# What a message to a worker that is gone raises. The next read then ends this process.
_WORKER_IS_GONE: Final = (BrokenPipeError, ConnectionResetError)


class ForkServerProcess:
    """The loop of this process."""

    def __init__(self, control: socket.socket, serve: Callable[[], None]) -> None:
        self._control = control
        self._serve = serve
        self._numbers: dict[int, int] = {}
        self._woken, self._wakes = socket.socketpair()
        for end in (self._woken, self._wakes):
            end.setblocking(False)

    def run(self) -> None:
        """Fork a child for each request, until the worker closes the connection."""
        signal.set_wakeup_fd(self._wakes.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self._control, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(_MESSAGE_BYTES)
                self._report_ended()
            if self._control in ready:
                data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 2)
                if not data:
                    return
                self._fork(json.loads(data), *descriptors)

    def _fork(self, request: dict[str, object], streams: int, errors: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._send(number=request["number"], error=error.strerror)
        else:
            if pid == 0:
                self._become_child(parent, request, streams, errors)
            self._numbers[pid] = int(str(request["number"]))
        os.close(streams)
        os.close(errors)

    def _become_child(
        self, parent: int, request: dict[str, object], streams: int, errors: int
    ) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._woken.close()
            self._wakes.close()
            os.setsid()
            die_with_parent(parent)
            for source, target in ((streams, 0), (streams, 1), (errors, 2)):
                os.dup2(source, target)
            os.close(streams)
            os.close(errors)
            self._send(number=request["number"], pid=os.getpid())
            self._control.close()
            limits = request["limits"]
            assert isinstance(limits, dict)
            set_limits(limits)
            self._serve()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)

    def _report_ended(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                self._send(number=self._numbers.pop(pid), code=os.waitstatus_to_exitcode(status))

    def _send(self, **message: object) -> None:
        with contextlib.suppress(*_WORKER_IS_GONE):
            self._control.send(json.dumps(message).encode())


def prepare(program: str, *arguments: str) -> Callable[[], None]:
    """Import and prepare `program`, whose arguments these are; return its function `serve`."""
    sys.argv = [program, *arguments]
    spec = importlib.util.spec_from_file_location("forked_program", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.prepare()
    # What is not collected is not written to, so children share it with this process.
    gc.collect()
    gc.freeze()
    serve: Callable[[], None] = module.serve
    return serve


def main(network: str, program: str, *arguments: str) -> None:
    """Import `program` and fork children that run it."""
    serve = prepare(program, *arguments)
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for target in (0, 1):
        os.dup2(null, target)
    os.close(null)
    serve_children(control, serve, json.loads(network))


def serve_children(
    control: socket.socket, serve: Callable[[], None], network: Mapping[str, Any]
) -> None:
    """Enter `network`, give up what is not needed, and fork children until `control` is closed."""
    if network["own"]:
        listeners = enter(network["ports"])
        message = json.dumps({"listening": len(listeners)}).encode()
        with contextlib.suppress(*_WORKER_IS_GONE):
            socket.send_fds(control, [message], [each.fileno() for each in listeners])
        for listener in listeners:
            listener.close()
    confine_parent(network["ports"])
    ForkServerProcess(control, serve).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
