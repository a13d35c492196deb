"""Messages of the Admin service to values and back."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from hotshoe.adapter.manifest import Base
from hotshoe.v1 import admin_pb2 as pb
from hotshoe.v1 import inference_pb2
from hotshoe.wire.admin import (
    Happening,
    Occupancy,
    Residency,
    ServerStatus,
    Share,
    State,
    StuckAlias,
    Warming,
    What,
)

_STATE_TO_PB: dict[State, pb.ResidencyState.ValueType] = {
    State.FETCHING: pb.RESIDENCY_STATE_FETCHING,
    State.ON_DISK: pb.RESIDENCY_STATE_ON_DISK,
    State.LOADING: pb.RESIDENCY_STATE_LOADING,
    State.LOADED: pb.RESIDENCY_STATE_LOADED,
    State.FAILED: pb.RESIDENCY_STATE_FAILED,
}
_STATE_FROM_PB = {message: value for value, message in _STATE_TO_PB.items()}

_WHAT_TO_PB: dict[What, pb.Happening.ValueType] = {
    What.LOADED: pb.HAPPENING_LOADED,
    What.LOAD_FAILED: pb.HAPPENING_LOAD_FAILED,
    What.EVICTED: pb.HAPPENING_EVICTED,
    What.RETIRED: pb.HAPPENING_RETIRED,
    What.MOVED: pb.HAPPENING_MOVED,
    What.STUCK: pb.HAPPENING_STUCK,
}
_WHAT_FROM_PB = {message: value for value, message in _WHAT_TO_PB.items()}


def from_status(status: ServerStatus) -> pb.StatusResponse:
    """Write how a server is."""
    base, full = status.base, status.adapters
    return pb.StatusResponse(
        base=inference_pb2.Base(repo=base.repo, revision=base.revision, digest=base.digest),
        server_version=status.server_version,
        started_at=_timestamp(status.started_at),
        serving=status.serving,
        draining=status.draining,
        running=status.running,
        waiting=status.waiting,
        adapters=pb.Occupancy(
            loaded=full.loaded,
            loading=full.loading,
            leased=full.leased,
            capacity=full.capacity,
            slots=full.slots,
            bytes=full.bytes,
            capacity_bytes=full.capacity_bytes,
        ),
        alias_age_seconds=status.alias_age_seconds,
        stuck=[pb.StuckAlias(alias=s.alias, reason=s.reason, message=s.message) for s in status.stuck],
        tenants=map(_from_share, status.tenants),
        used_adapters=map(_from_share, status.used_adapters),
        tenants_fault=status.tenants_fault,
    )


def to_status(message: pb.StatusResponse) -> ServerStatus:
    """Read how a server is."""
    base, full = message.base, message.adapters
    return ServerStatus(
        base=Base(base.repo, base.revision, base.digest),
        server_version=message.server_version,
        started_at=message.started_at.ToDatetime(UTC),
        serving=message.serving,
        draining=message.draining,
        running=message.running,
        waiting=message.waiting,
        adapters=Occupancy(
            full.loaded,
            full.loading,
            full.leased,
            full.capacity,
            full.slots,
            full.bytes,
            full.capacity_bytes,
        ),
        alias_age_seconds=message.alias_age_seconds,
        stuck=tuple(StuckAlias(s.alias, s.reason, s.message) for s in message.stuck),
        tenants=tuple(map(_to_share, message.tenants)),
        used_adapters=tuple(map(_to_share, message.used_adapters)),
        tenants_fault=message.tenants_fault,
    )


def from_residency(residency: Residency) -> pb.Residency:
    """Write a version in a server."""
    return pb.Residency(
        adapter=residency.adapter,
        version=residency.version,
        state=_STATE_TO_PB[residency.state],
        leases=residency.leases,
        hits=residency.hits,
        pinned=residency.pinned,
        idle_seconds=residency.idle_seconds,
        error_reason=residency.error_reason,
        error_message=residency.error_message,
        bytes=residency.bytes,
    )


def to_residency(message: pb.Residency) -> Residency:
    """Read a version in a server; a state that this client does not know yet reads as on disk."""
    return Residency(
        adapter=message.adapter,
        version=message.version,
        state=_STATE_FROM_PB.get(message.state, State.ON_DISK),
        leases=message.leases,
        hits=message.hits,
        pinned=message.pinned,
        idle_seconds=message.idle_seconds,
        error_reason=message.error_reason,
        error_message=message.error_message,
        bytes=message.bytes,
    )


def from_warming(warming: Warming) -> pb.WarmResponse:
    """Write a state on the way into memory."""
    return pb.WarmResponse(state=_STATE_TO_PB[warming.state], version=warming.version)


def to_warming(message: pb.WarmResponse) -> Warming:
    """Read a state on the way into memory."""
    return Warming(_STATE_FROM_PB.get(message.state, State.LOADING), message.version)


def from_happening(happening: Happening) -> pb.WatchResponse:
    """Write something that happened."""
    return pb.WatchResponse(
        what=_WHAT_TO_PB[happening.what],
        at=_timestamp(happening.at),
        adapter=happening.adapter,
        version=happening.version,
        alias=happening.alias,
        seconds=happening.seconds,
        reason=happening.reason,
        message=happening.message,
    )


def to_happening(message: pb.WatchResponse) -> Happening | None:
    """Read something that happened; None for what this client does not know yet."""
    what = _WHAT_FROM_PB.get(message.what)
    if what is None:
        return None
    return Happening(
        what=what,
        at=message.at.ToDatetime(UTC),
        adapter=message.adapter,
        version=message.version,
        alias=message.alias,
        seconds=message.seconds,
        reason=message.reason,
        message=message.message,
    )


def _from_share(share: Share) -> pb.Share:
    return pb.Share(
        name=share.name,
        running=share.running,
        requests=share.requests,
        failed=share.failed,
        prompt_tokens=share.prompt_tokens,
        output_tokens=share.output_tokens,
        first_token_ms=share.first_token_ms,
    )


def _to_share(message: pb.Share) -> Share:
    return Share(
        name=message.name,
        running=message.running,
        requests=message.requests,
        failed=message.failed,
        prompt_tokens=message.prompt_tokens,
        output_tokens=message.output_tokens,
        first_token_ms=message.first_token_ms,
    )


def _timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
