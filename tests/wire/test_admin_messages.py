"""Values of the Admin service come back from the wire as they were."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hotshoe.adapter.manifest import Base
from hotshoe.v1 import admin_pb2 as pb
from hotshoe.wire import admin_messages as messages
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

NOW = datetime(2026, 11, 23, 6, 30, 1, 250_000, tzinfo=UTC)


def test_a_status_comes_back_as_it_was() -> None:
    status = ServerStatus(
        base=Base("org/tiny", "main", "0" * 64),
        server_version="0.1.0",
        started_at=NOW,
        serving=True,
        draining=False,
        running=3,
        waiting=2,
        adapters=Occupancy(5, 1, 2, 8, 4, bytes=5 << 30, capacity_bytes=9 << 30),
        alias_age_seconds=0.25,
        stuck=(StuckAlias("acme/support@prod", "UNSERVABLE", "rank 64"),),
        tenants=(Share("acme", 1, 20, 2, 300, 400, 12.5),),
        used_adapters=(Share("acme/support"), Share("")),
        tenants_fault="tenants.toml: tenants.acme has no key 'adaptors'",
    )
    assert messages.to_status(messages.from_status(status)) == status


@pytest.mark.parametrize("state", State)
def test_a_residency_comes_back_as_it_was(state: State) -> None:
    residency = Residency("acme/support", "v7", state, 2, 30, True, 1.5, "TAMPERED", "no match")
    assert messages.to_residency(messages.from_residency(residency)) == residency
    assert messages.to_warming(messages.from_warming(Warming(state, "v7"))) == Warming(state, "v7")


@pytest.mark.parametrize("what", What)
def test_a_happening_comes_back_as_it_was(what: What) -> None:
    happening = Happening(what, NOW, "acme/support", "v7", "prod", 0.5, "UNSERVABLE", "rank 64")
    assert messages.to_happening(messages.from_happening(happening)) == happening


def test_what_a_newer_server_tells_does_not_break_a_client() -> None:
    assert messages.to_happening(pb.WatchResponse(what=99)) is None  # type: ignore[arg-type]
    assert messages.to_residency(pb.Residency(state=99)).state is State.ON_DISK  # type: ignore[arg-type]
