"""A structure's process, as the engine's process sees it, and the answers that it follows."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time

from hotshoe.serve.structures import messages
from hotshoe.serve.structures.limits import (
    ANSWER_SECONDS,
    COMPILE_SECONDS,
    GRACE_SECONDS,
    LOOK_SECONDS,
    MASK_SECONDS,
    MEMORY_BYTES,
    MESSAGE_BYTES,
    SLOW_ANSWER_SECONDS,
    SLOW_NICENESS,
    SLOW_SECONDS,
    STUCK_SECONDS,
)
from hotshoe.serve.structures.messages import Accept, Close, Compile, Mask, Open, Refused, Rejected

_numbers = itertools.count(1)

_NEXT_STEPS = "give a simpler structure"


class Follower:
    """One answer on its way through a structure.

    mask: the bits of what may come next, None if anything may. ready: whether that is known. ended: whether
    the structure is at its end. seconds: of the processor's time that it has taken.
    """

    def __init__(self, process: Process, stops: tuple[int, ...]) -> None:
        self.number = next(_numbers)
        self.mask: bytes | None = None
        self.ready = False
        self.rejected = False
        self.ended = False
        self.seconds = 0.0
        self.process = process
        process.ask(Open(self.number, stops).packed())
        process.followers[self.number] = self

    @property
    def failed(self) -> bool:
        """Whether it goes no further."""
        return self.rejected or self.process.fault is not None

    def accept(self, tokens: tuple[int, ...]) -> None:
        """The answer goes on with these; what may follow them is known later. After the end all may come."""
        if self.ended:
            return
        self.ready = False
        self.process.ask(Accept(self.number, tokens).packed())

    def close(self) -> None:
        """Ask for it no more."""
        if self.process.followers.pop(self.number, None) is not None:
            self.process.say(Close(self.number).packed())

    def hear(self, mask: bytes | None, seconds: float) -> None:
        """What may come next, and what it took to tell."""
        self.seconds += seconds
        self.mask, self.ended, self.ready = mask, mask is None, True


class Process:
    """Compiles a structure, then follows answers through it, until it takes too much.

    compiled: whether it has got so far. fault: why it is no more; None while it lives. blamed: whether
    that is the structure's doing, and would be so again. prompt: whether it told of the last token at once.
    Not for several threads at once.
    """

    def __init__(self, channel: socket.socket, kind: str, text: str) -> None:
        """channel: to the process, of whole messages."""
        channel.setblocking(False)
        self.followers: dict[int, Follower] = {}
        self.compiled = False
        self.prompt = True
        self.fault: str | None = None
        self.blamed = False
        self._heard_at = time.monotonic()
        self.unasked_seconds = 0.0
        self._unanswered = 1
        self._worked_before: float | None = 0.0
        self._channel = channel
        self._handle: int | None = None
        self._slow = False
        text_file = os.memfd_create("structure", os.MFD_CLOEXEC)
        try:
            with open(text_file, "wb", closefd=False) as file:
                file.write(text.encode(errors="replace"))
            socket.send_fds(channel, [Compile(kind).packed()], [text_file])
        finally:
            os.close(text_file)

    def ask(self, message: bytes) -> None:
        """Send what is answered by one message."""
        if not self._unanswered:
            self._heard_at = time.monotonic()
        self._unanswered += 1
        self.say(message)

    def say(self, message: bytes) -> None:
        """Send it. A process that does not come round to reading is ended."""
        if self.fault is None:
            try:
                self._channel.send(message)
            except OSError:
                self.end("the structure's process does not come round to reading: try again", blame=False)

    def listen(self) -> None:
        """Take in what it said, and end it if it takes too long."""
        while self.fault is None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, 1)
            except BlockingIOError:
                break
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.end(
                    f"the structure takes more than {MEMORY_BYTES >> 20} MiB of memory, or is nested too "
                    f"deeply: {_NEXT_STEPS}"
                )
                return
            if descriptors:
                self._handle = descriptors[0]
            if data != messages.HERE:
                self._unanswered -= 1
                self._worked_before = None
                self._heard_at = time.monotonic()
            self._hear(data)
        if self.fault is None:
            self._judge(time.monotonic())

    def end(self, fault: str, *, blame: bool = True) -> None:
        """Kill it. Answers that it followed have failed. blame: whether the structure is at fault."""
        if self.fault is not None:
            return
        self.fault, self.blamed = fault, blame
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            os.close(self._handle)
        self._channel.close()  # One that has not said who it is finds nobody there, and ends.

    def waiting(self) -> bool:
        """Whether something was asked that it has not answered."""
        return self._unanswered > 0

    def fileno(self) -> int:
        """Of the channel, to wait for."""
        return self._channel.fileno()

    def _hear(self, data: bytes) -> None:
        match messages.answer(data):
            case Mask(number, seconds, bits):
                self.prompt = seconds < GRACE_SECONDS
                if (follower := self.followers.get(number)) is not None:
                    follower.hear(bits, seconds)
            case Rejected(number):
                if (follower := self.followers.get(number)) is not None:
                    follower.rejected = True
            case Refused(why):
                self.end(why)
            case messages.COMPILED:
                self.compiled = True

    def _judge(self, now: float) -> None:
        if any(each.seconds > ANSWER_SECONDS for each in self.followers.values()):
            self.end(f"the structure takes over {ANSWER_SECONDS:.0f} s to follow: {_NEXT_STEPS}")
        if any(each.seconds > SLOW_ANSWER_SECONDS for each in self.followers.values()):
            self._yield_processor()
        silent = now - self._heard_at
        if self.fault is not None or not self._unanswered or silent < LOOK_SECONDS:
            return
        # By its own time on the processor: the engine may have been away, or the machine busy with others.
        worked = self._worked()
        if self._worked_before is None:
            self._worked_before = worked
        took = worked - self._worked_before
        if took > SLOW_SECONDS:
            self._yield_processor()
        if not self.compiled and took > COMPILE_SECONDS:
            self.end(f"the structure takes over {COMPILE_SECONDS:.0f} s to compile: {_NEXT_STEPS}")
        elif self.compiled and took > MASK_SECONDS:
            self.end(f"the structure takes over {MASK_SECONDS:.0f} s to follow by a token: {_NEXT_STEPS}")
        elif silent > STUCK_SECONDS:
            self.end("the structure's process did not get far in time: try again", blame=False)

    def _worked(self) -> float:
        """Seconds of the processor's time that it has taken; 0.0 where that is not known yet."""
        with contextlib.suppress(OSError), open(f"/proc/{self._pid()}/stat") as stat:
            # After the name, which may hold blanks: the state, ten more, then the user's and the system's.
            user, system = stat.read().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def _pid(self) -> int:
        """0 where it has none (any more), or has not said."""
        if self._handle is not None:
            with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{self._handle}") as info:
                found = (int(line.split()[1]) for line in info if line.startswith("Pid:"))
                return max(next(found, 0), 0)
        return 0

    def _yield_processor(self) -> None:
        """From now on it only gets what nobody else wants."""
        if not self._slow and (pid := self._pid()):
            self._slow = True
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, pid, SLOW_NICENESS)
