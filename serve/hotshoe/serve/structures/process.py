"""A structure's process, as the engine's process sees it, and the answers that it follows."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass

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
from hotshoe.serve.structures.wanted import Wanted

_numbers = itertools.count(1)

_NEXT_STEPS = "give a simpler structure"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something is followed no further. blamed: it is the structure's doing, and would be so again."""

    why: str
    blamed: bool


class Follower:
    """One answer on its way through a structure.

    mask: the bits of what may come next, None if anything may. ended: whether the structure is at its end.
    seconds: of the processor's time that it has taken.
    """

    def __init__(self, process: Process, stops: tuple[int, ...]) -> None:
        self.number = next(_numbers)
        self.mask: bytes | None = None
        self.ended = False
        self.seconds = 0.0
        self.process = process
        self._awaited = 1
        self._fault: Fault | None = None
        process.ask(Open(self.number, stops).packed())
        process.followers[self.number] = self

    @property
    def ready(self) -> bool:
        """Whether it is known what may come next."""
        return not self._awaited

    @property
    def fault(self) -> Fault | None:
        """Why it goes no further; None while it does."""
        return self._fault or self.process.fault

    def accept(self, tokens: tuple[int, ...]) -> None:
        """The answer goes on with these; what may follow them is known later. After the end all may come."""
        if self.ended:
            return
        self._awaited += 1
        self.process.ask(Accept(self.number, tokens).packed())

    def close(self) -> None:
        """Ask for it no more."""
        if self.process.followers.pop(self.number, None) is not None:
            self.process.say(Close(self.number).packed())

    def hear(self, mask: bytes | None, seconds: float) -> None:
        """What may come next, and what it took to tell."""
        self.seconds += seconds
        self.mask, self.ended = mask, mask is None
        self._awaited -= 1
        if self.seconds > ANSWER_SECONDS and not self.ended:
            # This one only: another answer of the same structure may be a short one.
            self.end(
                f"the structure takes over {ANSWER_SECONDS:.0f} s to follow in this answer: {_NEXT_STEPS}"
            )

    def end(self, why: str, *, blame: bool = True) -> None:
        """It goes no further. blame: whether the structure is at fault."""
        self._fault = Fault(why, blame)
        self.close()


class Process:
    """Compiles a structure, then follows answers through it, until it takes too much.

    compiled: whether it has got so far. fault: why it is no more; None while it lives. prompt: whether it
    told of the last token at once. unasked_seconds: since somebody asked for it. unused_seconds: since
    somebody asked for it or followed it; for both see `Processes.look`. Not for several threads at once.
    """

    def __init__(self, channel: socket.socket, wanted: Wanted) -> None:
        """channel: to the process, of whole messages."""
        channel.setblocking(False)
        self.tenant = wanted.tenant
        self.followers: dict[int, Follower] = {}
        self.compiled = False
        self.prompt = True
        self.fault: Fault | None = None
        self.unasked_seconds = 0.0
        self.unused_seconds = 0.0
        self._heard_at = time.monotonic()
        self._look_at = 0.0
        self._unanswered = 1
        # A new one for each message would cost more than the message.
        self._buffer = memoryview(bytearray(MESSAGE_BYTES))
        self._unsent: deque[bytes] = deque()
        self._worked_before: float | None = 0.0
        self._channel = channel
        self._handle: int | None = None
        self._slow = False
        text_file = os.memfd_create("structure", os.MFD_CLOEXEC)
        try:
            with open(text_file, "wb", closefd=False) as file:
                file.write(wanted.text.encode(errors="replace"))
            socket.send_fds(channel, [Compile(wanted.kind).packed()], [text_file])
        finally:
            os.close(text_file)

    def ask(self, message: bytes) -> None:
        """Send what is answered by one message."""
        if not self._unanswered:
            self._heard_at = time.monotonic()
        self._unanswered += 1
        self.say(message)

    def say(self, message: bytes) -> None:
        """Send it with the next `send`: with all that is said until then."""
        if self.fault is None:
            self._unsent.append(message)

    def send(self) -> None:
        """Send what was said, or as much of it as the process has room for."""
        with contextlib.suppress(OSError):  # It is full, or gone; that it is gone is heard.
            while self._unsent and self.fault is None:
                some = messages.fitting(self._unsent, MESSAGE_BYTES)
                self._channel.send(messages.together(some))
                for _ in some:
                    self._unsent.popleft()

    def listen(self) -> None:
        """Take in what it said, and end it if it takes too long."""
        self.send()
        while self.fault is None:
            try:
                data = self._received()
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data and self._handle is None:
                self.end("the structure's process did not begin: try again", blame=False)
                return
            if not data:
                self.end(
                    f"the structure takes more than {MEMORY_BYTES >> 20} MiB of memory, or is nested too "
                    f"deeply: {_NEXT_STEPS}",
                    blame=self.waiting(),  # One that was at nothing was ended by somebody else.
                )
                return
            for message in messages.apart(memoryview(data)):
                self._hear(message)
        if self.fault is None:
            self._judge(time.monotonic())

    def end(self, why: str, *, blame: bool = True) -> None:
        """Kill it. Answers that it followed have failed. blame: whether the structure is at fault."""
        if self.fault is not None:
            return
        self.fault = Fault(why, blame)
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

    def _received(self) -> bytes:
        if self._handle is None:  # It comes with the first message.
            data, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, 1)
            self._handle = next(iter(descriptors), None)
            return data
        return bytes(self._buffer[: self._channel.recv_into(self._buffer)])

    def _hear(self, message: bytes) -> None:
        if message == messages.HERE:
            return
        self._unanswered -= 1
        self._worked_before = None
        self._heard_at = time.monotonic()
        match messages.answer(message):
            case Mask(number, seconds, bits):
                self.prompt = seconds < GRACE_SECONDS
                if (follower := self.followers.get(number)) is not None:
                    follower.hear(bits, seconds)
                    if follower.seconds > SLOW_ANSWER_SECONDS:
                        self._yield_processor()
            case Rejected(number):
                if (follower := self.followers.get(number)) is not None:
                    follower.end("the structure does not allow what the engine chose", blame=False)
            case Refused(why):
                self.end(why)
            case messages.COMPILED:
                self.compiled = True

    def _judge(self, now: float) -> None:
        silent = now - self._heard_at
        if not self._unanswered or silent < LOOK_SECONDS or now < self._look_at:
            return
        # Looking costs something, and every answer that waits asks for it.
        self._look_at = now + LOOK_SECONDS
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
