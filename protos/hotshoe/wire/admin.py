"""What operators see of a server, as plain values that know no protocol."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from hotshoe.adapter.manifest import Base


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


class State(enum.Enum):
    """How near to answering a version is."""

    FETCHING = "fetching"
    ON_DISK = "on disk"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Residency:
    """A version in a server.

    leases: requests that use it or wait for it. hits: requests since it was loaded. idle_seconds: since
    it was last wanted. error_reason, error_message: what its last load ended with; empty if well.
    bytes: what it takes of the engine's memory; 0 while it is not there.
    """

    adapter: str
    version: str
    state: State
    leases: int = 0
    hits: int = 0
    pinned: bool = False
    idle_seconds: float = 0.0
    error_reason: str = ""
    error_message: str = ""
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Warming:
    """A state that a version reached on its way into memory."""

    state: State
    version: str


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How many adapters are in the engine's memory, on their way there, in use; how many may be.

    slots: how many may be active in one step of the engine. bytes: of what is loaded or on its way;
    capacity_bytes: what all of them together may take.
    """

    loaded: int
    loading: int
    leased: int
    capacity: int
    slots: int
    bytes: int
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class StuckAlias:
    """`org/name@alias`, which stays where it was as its new version cannot be loaded, and why."""

    alias: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Share:
    """What one tenant or adapter used since the server started.

    running: requests under way. first_token_ms: averaged over the newest requests.
    """

    name: str
    running: int = 0
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    first_token_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How a server is.

    started_at: aware UTC. running, waiting: requests in the engine, and in line for it.
    alias_age_seconds: since the registry last said what moved. tenants_fault: why the tenants file that is
    there now does not count; empty if it does.
    """

    base: Base
    server_version: str
    started_at: datetime
    serving: bool
    draining: bool
    running: int
    waiting: int
    adapters: Occupancy
    alias_age_seconds: float
    stuck: tuple[StuckAlias, ...]
    tenants: tuple[Share, ...]
    used_adapters: tuple[Share, ...]
    tenants_fault: str = ""
