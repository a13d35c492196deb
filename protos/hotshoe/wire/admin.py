"""What operators see of a server, as plain values that know no protocol."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


class What(enum.Enum):
    """What happened to an adapter. EVICTED: its place was needed. RETIRED: no alias wants it any more.

    MOVED: an alias answers with another version now. STUCK: it should, but that one cannot be loaded.
    """

    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    EVICTED = "evicted"
    RETIRED = "retired"
    MOVED = "moved"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to an adapter, at an aware UTC time.

    adapter: `org/name`. version: `v7`; of MOVED, where the alias points now (`v8:10,v7:90` if it splits).
    alias: of MOVED and STUCK. seconds: how long the load took. reason: of the error, as in
    `hotshoe.adapter.errors`. message: for people.
    """

    what: What
    at: datetime
    adapter: str
    version: str = ""
    alias: str = ""
    seconds: float = 0.0
    reason: str = ""
    message: str = ""
