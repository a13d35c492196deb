"""What the engine's process and a structure's process say to each other, several messages to a packet."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LENGTH_BYTES = 8
"""Before the vocabulary, which the zygote is told first: how long it is."""

READY = b"ready"
"""What the zygote says then."""

HERE = b"h"
"""The process is there; its own descriptor comes with it."""

COMPILED = b"c"

_REFUSED = b"r"
_MASK = b"m"
_ENDED = b"e"
_REJECTED = b"x"
_NUMBER = struct.Struct(">Q")
_TOLD = struct.Struct(">Qd")
_LENGTH = struct.Struct(">I")
_LONGEST_ERROR = 2000


@dataclass(frozen=True, slots=True)
class Compile:
    """Make ready to follow a text of this kind: `json`, `regex` or `grammar`.

    The text lies in a file whose descriptor comes with the message: a packet might be too small for it.
    """

    kind: str

    def packed(self) -> bytes:
        return self.kind.encode()

    @classmethod
    def read(cls, data: bytes) -> Compile:
        """What the engine's process says first."""
        return cls(data.decode())


@dataclass(frozen=True, slots=True)
class Open:
    """An answer begins; the tokens that may end it."""

    number: int
    stops: tuple[int, ...]

    def packed(self) -> bytes:
        return b"O" + _NUMBER.pack(self.number) + _ids(self.stops)


@dataclass(frozen=True, slots=True)
class Accept:
    """An answer goes on with these tokens."""

    number: int
    tokens: tuple[int, ...]

    def packed(self) -> bytes:
        return b"A" + _NUMBER.pack(self.number) + _ids(self.tokens)


@dataclass(frozen=True, slots=True)
class Close:
    """Nobody asks for this answer any more."""

    number: int

    def packed(self) -> bytes:
        return b"X" + _NUMBER.pack(self.number)


@dataclass(frozen=True, slots=True)
class Mask:
    """Which tokens may come next, a bit each; None is any, for the structure is at its end.

    seconds: of the processor's time that it took to tell.
    """

    number: int
    seconds: float
    bits: bytes | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The tokens do not go with the structure."""

    number: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The text cannot be followed, and why."""

    why: str


def together(messages: Iterable[bytes]) -> bytes:
    """One packet. Sending and waking up for it costs more than a message does to make."""
    return b"".join(part for each in messages for part in (_LENGTH.pack(len(each)), each))


def fitting(messages: Iterable[bytes], packet_bytes: int) -> list[bytes]:
    """The first of them, as many as one packet holds: one at least."""
    some: list[bytes] = []
    left = packet_bytes
    for each in messages:
        left -= _LENGTH.size + len(each)
        if some and left < 0:
            break
        some.append(each)
    return some


def apart(packet: memoryview) -> Iterator[bytes]:
    """The messages of a packet."""
    at = 0
    while at < len(packet):
        (length,) = _LENGTH.unpack_from(packet, at)
        at += _LENGTH.size + length
        yield bytes(packet[at - length : at])


def read(data: bytes) -> Open | Accept | Close:
    """What the engine's process says then."""
    (number,) = _NUMBER.unpack_from(data, 1)
    rest = data[1 + _NUMBER.size :]
    if data[:1] == b"X":
        return Close(number)
    ids = struct.unpack(f">{len(rest) // 4}i", rest)
    return Open(number, ids) if data[:1] == b"O" else Accept(number, ids)


def answer(data: bytes) -> Mask | Rejected | Refused | bytes:
    """What a structure's process says; HERE and COMPILED as they are."""
    head = data[:1]
    if head == _REFUSED:
        return Refused(data[1:].decode(errors="replace"))
    if head == _REJECTED:
        return Rejected(*_NUMBER.unpack_from(data, 1))
    if head in (_MASK, _ENDED):
        number, seconds = _TOLD.unpack_from(data, 1)
        return Mask(number, seconds, data[1 + _TOLD.size :] if head == _MASK else None)
    return head


def refused(why: str) -> bytes:
    """The text cannot be followed."""
    return _REFUSED + why.encode(errors="replace")[:_LONGEST_ERROR]


def mask(number: int, seconds: float, bits: bytes | None) -> bytes:
    """Which tokens may come next; no bits at the structure's end."""
    head = _ENDED if bits is None else _MASK
    return head + _TOLD.pack(number, seconds) + (bits or b"")


def rejected(number: int) -> bytes:
    """The tokens do not go with it."""
    return _REJECTED + _NUMBER.pack(number)


def _ids(ids: tuple[int, ...]) -> bytes:
    return struct.pack(f">{len(ids)}i", *ids)
