"""Children forked from a process that has done their imports: a start costs milliseconds.

    worker --launch.py--> fork_server_main.py NETWORK PROGRAM --fork--> one child for each job

The worker itself never forks: it has threads, and connections that no child may inherit. Children
share the memory of what they import. They are isolated from each other, from the worker and from
the process that they are forked from as those that are started with exec (child.py). They may have
a network of their own: then its listeners are handed to the worker, which accepts on them.

The process to fork from takes tens of MiB. So it is started when children will be needed, and ends
when there have been none for some minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.process import network_namespace
from ingot_server.process.child import ENVIRONMENT, ChildError, ChildProcess
from ingot_server.process.forked_child import ForkedChild
from ingot_server.process.launch import launch_command
from ingot_server.process.limits import Limits

logger = EventLogger(__name__)

_PROGRAM: Final = str(Path(__file__).with_name("fork_server_main.py"))
_MESSAGE_BYTES: Final = 4096
_MOST_LISTENERS: Final = 8
_ATTEMPTS: Final = 2
# After these times without a response, the process to fork from hangs, and is killed.
_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 5.0
# How often an idle process is looked for. One that was not used since the last look ends: so the
# jobs of a service that gets one every few minutes still find it, at night it takes no memory.
_IDLE_SECONDS: Final = 300.0


class ChildNetwork(Protocol):
    """What the children of a fork server find on 127.0.0.1 in a network of their own."""

    @property
    def ports(self) -> Sequence[int]:
        """The TCP ports that they may connect to."""

    def accept(self, listeners: Sequence[socket.socket]) -> Callable[[], None]:
        """Accept on listeners at `ports`, which are given away; return what closes them."""


class ForkServer:
    """Starts children of one program, between `start` and `close` by forking.

    Before and after, each child is started with exec, and does the imports itself.
    """

    def __init__(
        self,
        program: str,
        *,
        limits: Limits,
        arguments: Callable[[], Sequence[str]] = tuple,
        connects: bool = False,
        network: ChildNetwork | None = None,
    ) -> None:
        """Prepare to run `program`, a Python file with the functions `prepare` and `serve`.

        `arguments` returns what it is started with now. If that changes, later children get the new
        ones. The children make no sockets unless `connects`. With `network`, those that are forked
        reach only its ports, as far as the kernel can see to it.
        """
        self._program = program
        self._limits = limits
        self._arguments = arguments
        self._connects = connects
        self._network = network
        self._started = False
        self._kept = False
        self._parent: _Parent | None = None
        self._launching = asyncio.Lock()
        self._preparing: asyncio.Task[None] | None = None

    def start(self, *, keep: bool = False) -> None:
        """Fork from now on. With `keep`, there is a process to fork from until `close`."""
        self._started = True
        self._kept = keep
        if keep:
            self.prepare()

    def prepare(self) -> None:
        """Have the process to fork from started in the background: children will be needed soon.

        If that is impossible now, it is logged, and tried again with the first child.
        """
        if self._started and (self._preparing is None or self._preparing.done()):
            self._preparing = asyncio.create_task(self._prepare())

    async def _prepare(self) -> None:
        try:
            await self._parent_with(tuple(self._arguments()))
        except ChildError as error:
            logger.warning(
                Event.FORK_SERVER_NOT_READY, "%s is not ready in advance: %s", self._program, error
            )

    async def close(self) -> None:
        """End the process to fork from, as soon as its last child has ended."""
        self._started = False
        if self._preparing is not None:
            await cancel_and_wait(self._preparing)
        parent, self._parent = self._parent, None
        if parent is not None:
            await parent.retire()

    async def start_child(self) -> ChildProcess:
        """Return a new child. Raises ChildError if none can be started."""
        arguments, name = tuple(self._arguments()), Path(self._program).stem
        if not self._started:
            return await ChildProcess.start(
                *(sys.executable, "-I", self._program, *arguments), limits=self._limits, name=name
            )
        for attempt in range(1, _ATTEMPTS + 1):
            parent = await self._parent_with(arguments)
            try:
                return await ChildProcess.spawned(parent.fork, name)
            except ChildError:
                # It may have died meanwhile; then another one is started.
                if attempt == _ATTEMPTS or not parent.ended:
                    raise
        raise AssertionError

    async def _parent_with(self, arguments: tuple[str, ...]) -> _Parent:
        async with self._launching:
            parent = self._parent
            if parent is None or parent.ended or parent.arguments != arguments:
                self._parent = await _Parent.launch(
                    self._program, arguments, self._limits, await self._chosen_network()
                )
                if parent is not None:
                    await parent.retire()
                if not self._kept:
                    self._parent.end_when_idle()
            assert self._parent is not None
            self._parent.was_used = True
            return self._parent

    async def _chosen_network(self) -> _ChosenNetwork:
        if self._network is None:
            return _ChosenNetwork(None if self._connects else (), None)
        own = await asyncio.to_thread(network_namespace.is_available)
        return _ChosenNetwork(self._network.ports, self._network.accept if own else None)


class _ChosenNetwork(NamedTuple):
    """Which ports children connect to, and what accepts on them if the network is their own."""

    ports: Sequence[int] | None
    accept: Callable[[Sequence[socket.socket]], Callable[[], None]] | None

    def described(self) -> dict[str, object]:
        """Return what fork_server_main.py calls NETWORK."""
        return {"ports": self.ports, "own": self.accept is not None}


class _Parent:
    """The process to fork from. It belongs to the running event loop."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: socket.socket,
        arguments: tuple[str, ...],
        limits: Limits,
        network: _ChosenNetwork,
    ) -> None:
        self.arguments = arguments
        self.ended = False
        self.was_used = True
        self._process = process
        self._control = control
        self._limits = limits
        self._network = network
        self._close_listeners: Callable[[], None] = _nothing
        self._children: dict[int, ForkedChild] = {}
        self._last_number = 0
        self._retired = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control, self._receive)
        self._logging = asyncio.create_task(self._log_stderr())

    @classmethod
    async def launch(
        cls,
        program: str,
        arguments: tuple[str, ...],
        limits: Limits,
        network: _ChosenNetwork,
    ) -> Self:
        """Start it. Raises ChildError if the system refuses."""
        try:
            control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with contextlib.ExitStack() as kept, theirs:
                kept.callback(control.close)
                control.setblocking(False)
                process = await asyncio.create_subprocess_exec(
                    *launch_command(
                        *(sys.executable, "-I", _PROGRAM, json.dumps(network.described())),
                        *(program, *arguments),
                    ),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    env=dict(ENVIRONMENT),
                    start_new_session=True,
                )
                kept.pop_all()
        except OSError as error:
            raise ChildError(f"it could not be started: {error.strerror}") from error
        return cls(process, control, arguments, limits, network)

    async def fork(self, streams: int, errors: int) -> ForkedChild:
        """Return a new child with these descriptors. Raises OSError or ChildError."""
        self._last_number += 1
        number = self._last_number
        request = {"number": number, "limits": self._limits.rlimits()}
        socket.send_fds(self._control, [json.dumps(request).encode()], [streams, errors])
        child = self._children[number] = ForkedChild(self._expect_end)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await child.wait_until_started()
        except TimeoutError:
            self._kill()
            raise ChildError("it could not be forked in time") from None
        return child

    def end_when_idle(self) -> None:
        """Look at it now and again; end it if it has no child and was not used since the last."""
        if not (self.was_used or self._has_children()):
            self._close()
        if not self.ended:
            self.was_used = False
            self._loop.call_later(_IDLE_SECONDS, self.end_when_idle)

    async def retire(self) -> None:
        """Fork no more; end when no child is left. Returns at once if one is."""
        self._retired = True
        if not self._has_children():
            self._close()
            await self._process.wait()

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._control, _MESSAGE_BYTES, _MOST_LISTENERS
            )
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._close()
            return
        message: dict[str, Any] = json.loads(data)
        if "listening" in message:
            assert self._network.accept is not None
            listeners = [socket.socket(fileno=each) for each in descriptors]
            self._close_listeners = self._network.accept(listeners)
            return
        number = message["number"]
        if "pid" in message:
            self._children[number].start(message["pid"])
        elif "error" in message:
            self._children.pop(number).fail(f"it could not be forked: {message['error']}")
        else:
            self._children.pop(number).end(message["code"])
        if self._retired and not self._has_children():
            self._close()

    def _has_children(self) -> bool:
        """Return whether anyone has a child of it, or waits for one."""
        return not all(child.abandoned for child in self._children.values())

    def _close(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._loop.remove_reader(self._control)
        self._control.close()
        self._close_listeners()
        # The kernel kills them with the process that they were forked from.
        for child in self._children.values():
            child.end(-signal.SIGKILL)
        self._children.clear()

    def _expect_end(self, child: ForkedChild) -> None:
        """Kill this process unless it soon reports the end of a child that was killed."""

        def check() -> None:
            if child.returncode is None:
                logger.warning(
                    Event.FORK_SERVER_REPLACED,
                    "the process that children are forked from hangs; it is replaced",
                )
                self._kill()

        self._loop.call_later(_END_SECONDS, check)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _log_stderr(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            logger.warning(Event.FORK_SERVER_OUTPUT, "%s", line.decode(errors="replace").rstrip())


def _nothing() -> None:
    """Close no listeners."""
