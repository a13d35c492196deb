"""Copying between the Hub and a folder, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk
from support.hub.server import HubServer

from hotshoe.registry import open_registry
from hotshoe.registry.mirror import mirror
from hotshoe.registry.registry import Registry


@pytest.fixture
def folder(tmp_path: Path) -> Registry:
    return open_registry(tmp_path / "registry", cache=tmp_path / "folder-cache")


def test_versions_aliases_and_history_come_from_the_hub_into_a_folder(desk: Desk, folder: Registry) -> None:
    for seed in (1, 2):
        desk.publish(seed)
        desk.registry.promote(SUPPORT, "prod", seed, actor="ada", reason=f"turn {seed}")
    mirror(desk.registry, folder)
    assert folder.fetch(folder.resolve(ref("acme/support@prod"))).is_dir()
    assert (
        folder.resolve(ref("acme/support")).manifest_sha256
        == desk.registry.resolve(ref("acme/support")).manifest_sha256
    )
    there, here = desk.registry.history(SUPPORT), folder.history(SUPPORT)
    assert [(m.actor, m.reason, m.at, m.promotion_id) for m in here] == [
        (m.actor, m.reason, m.at, m.promotion_id) for m in there
    ]


def test_they_come_from_a_folder_onto_the_hub_and_a_second_time_costs_no_commit(
    hub: HubServer, desk: Desk, folder: Registry
) -> None:
    for seed in (1, 2):
        folder.publish(desk.adapter(seed), SUPPORT, base=desk.base)
        folder.promote(SUPPORT, "prod", seed)
    mirror(folder, desk.registry)
    assert [state.version.number for state in desk.registry.show(SUPPORT).versions] == [1, 2]
    assert desk.registry.resolve(ref("acme/support@prod")).number == 2
    commits = len(hub.repos["acme/support"].commits)
    mirror(folder, desk.registry)
    assert len(hub.repos["acme/support"].commits) == commits
