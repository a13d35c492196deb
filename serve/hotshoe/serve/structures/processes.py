"""The processes of all structures that an engine follows or has refused."""

from __future__ import annotations

import logging
import select
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from hotshoe.serve.structures.limits import (
    ABANDONED_SECONDS,
    BUSY_SECONDS,
    GAP_SECONDS,
    IDLE_SECONDS,
    LOOK_SECONDS,
    PROCESSES,
    PROMISED_SECONDS,
    REFUSED_SECONDS,
    REMEMBERED,
)
from hotshoe.serve.structures.messages import LENGTH_BYTES, READY
from hotshoe.serve.structures.places import Place, leaving
from hotshoe.serve.structures.process import Fault, Follower, Process
from hotshoe.serve.structures.wanted import Wanted

BUSY = "busy"
"""The verdict on a structure for which there is no process to spare; any other is the structure's own."""

UNKNOWN = "unknown"
"""The verdict on a structure that the engine was not told of, or has forgotten."""

TRY_AGAIN_SECONDS = 10.0

START_SECONDS = 120.0
"""For the zygote to load what it needs, on a machine that is busy with the engine's own start."""

log = logging.getLogger(__name__)


class Zygote:
    """Forks processes that have loaded xgrammar and the base's vocabulary. Loading takes seconds.

    vocabulary: a TokenizerInfo, serialized.
    """

    def __init__(self, vocabulary: str) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "hotshoe.serve.structures.zygote", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._control = ours
        data = vocabulary.encode()
        ours.settimeout(START_SECONDS)
        try:
            ours.sendall(len(data).to_bytes(LENGTH_BYTES, "big") + data)
            said = ours.recv(len(READY))
        except OSError:
            said = b""
        if said != READY:
            self.close()
            raise RuntimeError("the process for structured output did not start")
        ours.setblocking(False)  # One that stands still must not hold up the engine.

    def fork(self) -> socket.socket:
        """A channel to a new process, without waiting for it.

        Raises ConnectionError where the zygote is gone, another OSError where it cannot be now.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return ours

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def dead(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it, and with it all that it forked."""
        self._control.close()
        self._process.kill()
        self._process.wait()


class Processes:
    """One process for each structure in use. Its methods may be called from several threads.

    start: makes the zygote; called in a thread, for it takes seconds. most: how many there may be.
    clock: seconds that never go back.
    """

    def __init__(
        self,
        start: Callable[[], Zygote],
        *,
        most: int = PROCESSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._most = most
        self._clock = clock
        self._zygote: Zygote | None = None
        self._starting: threading.Thread | None = None
        self._processes: OrderedDict[str, Process] = OrderedDict()
        self._refused: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.RLock()
        self._closed = False
        self._try_again_at = 0.0
        self._looked_at = clock()

    def warm_up(self) -> None:
        """Start the zygote, if it is not, in the background."""
        with self._lock:
            if self._zygote is None and self._starting is None and not self._closed:
                self._starting = threading.Thread(target=self._load, name="structures", daemon=True)
                self._starting.start()

    def verdict(self, key: str, wanted: Wanted | None = None) -> str | None:
        """Empty once the structure can be followed, else why it cannot; None where it is not known yet.

        Returns at once. UNKNOWN if nobody has begun to find out: that takes the structure itself, `wanted`.
        """
        with self._lock:
            self.look()
            if (process := self._processes.get(key)) is not None:
                self._processes.move_to_end(key)
                process.unasked_seconds = process.unused_seconds = 0.0
                process.listen()
                if process.fault is None:
                    return "" if process.compiled else None
                self._forget(key, process.fault)
            if (refused := self._refused.get(key)) is not None:
                if self._clock() < refused[0]:
                    return refused[1]
                del self._refused[key]
            if self._zygote is None:
                if self._clock() < self._try_again_at:
                    return BUSY
                self.warm_up()
                return None
            return UNKNOWN if wanted is None else self._begin(wanted)

    def open(self, key: str, stops: tuple[int, ...]) -> Follower:
        """Begin to follow an answer. What may come first is known later, see `ready`.

        Raises ValueError where the structure has no process.
        """
        with self._lock:
            process = self._processes.get(key)
            if process is None or not process.compiled or process.fault is not None:
                raise ValueError("the structure has no process: ask for a verdict first")
            return Follower(process, stops)

    def accept(self, follower: Follower, tokens: tuple[int, ...]) -> bool:
        """The answer goes on with these tokens; False if it cannot be followed any more."""
        with self._lock:
            if follower.fault is not None:
                return False
            follower.accept(tokens)
            return True

    def send(self) -> None:
        """Have all processes work at what was accepted; `ready` sends only what its own waits for."""
        with self._lock:
            for each in self._processes.values():
                each.send()

    def close_follower(self, follower: Follower) -> None:
        """The answer has ended."""
        with self._lock:
            follower.close()

    def give_up(self, follower: Follower, why: str) -> None:
        """The answer goes no further, for no fault of its structure."""
        with self._lock:
            follower.end(why, blame=False)

    def ready(self, follower: Follower, seconds: float = 0.0) -> bool:
        """Whether it is known what may come next, or that nothing can; waits that long to find out."""
        until = time.monotonic() + seconds
        while True:
            with self._lock:
                if not follower.ready:
                    follower.process.listen()
                if follower.ready or follower.fault is not None:
                    return True
                left = until - time.monotonic()
                if left <= 0:
                    return False
                poller = select.poll()
                poller.register(follower.process, select.POLLIN)
            poller.poll(max(1, round(left * 1000)))

    def look(self) -> None:
        """Hear all that is waited for, and end what takes too long. To be called every now and then."""
        with self._lock:
            if self._zygote is not None and self._zygote.dead():
                log.error("the process for structured output died: it is started again when it is needed")
                self._lost()
            now = self._clock()
            if now - self._looked_at < LOOK_SECONDS:
                return  # Everybody who waits for a structure has come by here.
            passed, self._looked_at = min(now - self._looked_at, GAP_SECONDS), now
            for key, process in [*self._processes.items()]:
                process.unasked_seconds += passed
                process.unused_seconds = 0.0 if process.followers else process.unused_seconds + passed
                process.listen()
                if process.fault is not None:
                    self._forget(key, process.fault)
                elif process.unused_seconds > (IDLE_SECONDS if process.compiled else ABANDONED_SECONDS):
                    self._processes.pop(key).end("nobody waits for it any more", blame=False)

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            if self._zygote is not None:
                self._lost()

    def _begin(self, wanted: Wanted) -> str | None:
        assert self._zygote is not None
        if not self._make_room(wanted.tenant):
            return BUSY
        try:
            channel = self._zygote.fork()
        except ConnectionError:
            self._lost()  # The zygote is gone.
            return None
        except OSError as error:
            log.warning("no process for a structure: %s", error)
            return BUSY
        try:
            self._processes[wanted.key] = Process(channel, wanted)
        except OSError as error:
            # The zygote is there: it could not fork, and has closed its end already.
            channel.close()
            log.warning("no process for a structure: %s", error)
            return BUSY
        return None

    def _make_room(self, tenant: str) -> bool:
        places = [
            Place(key, each.tenant, idle=each.compiled and not each.followers and not _promised(each))
            for key, each in self._processes.items()
        ]
        keys = leaving(tenant, places, self._most)
        for key in keys or ():
            self._processes.pop(key).end("its place was needed", blame=False)
        return keys is not None

    def _forget(self, key: str, fault: Fault) -> None:
        """Its process is no more: whoever asks hears why, for a while."""
        del self._processes[key]
        seconds, why = (REFUSED_SECONDS, fault.why) if fault.blamed else (BUSY_SECONDS, BUSY)
        self._refused[key] = (self._clock() + seconds, why)
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)

    def _lost(self) -> None:
        """The zygote is gone, and all that it forked goes with it. The next verdict starts another one."""
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
        for process in self._processes.values():
            process.end("the process for structured output ended: try again", blame=False)
        self._processes.clear()

    def _load(self) -> None:
        try:
            zygote = self._start()
        except Exception:
            log.exception("structured output cannot be served")
            zygote = None
        with self._lock:
            self._starting = None
            if zygote is None:
                self._try_again_at = self._clock() + TRY_AGAIN_SECONDS
            if self._closed and zygote is not None:
                zygote.close()
            else:
                self._zygote = zygote


def _promised(process: Process) -> bool:
    """Whether somebody may just have been told that it can be followed, and is about to begin."""
    return process.unasked_seconds <= PROMISED_SECONDS
