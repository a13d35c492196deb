"""From one registry into another, whatever stores they have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.adapters import LEGAL, SUPPORT, ref
from support.desk import Desk
from support.outage import FailingStore

from hotshoe.adapter.errors import Refused
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import Registry, open_registry, targets_text
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.mirror import mirror
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.retention import Retention, collect
from hotshoe.registry.store import Store
from hotshoe.registry.values import Move, Publication


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Registry]:
    """The other registry: always one in a folder."""
    with open_registry(tmp_path / "folder", cache=tmp_path / "folder-cache") as registry:
        yield registry


def told(move: Move) -> tuple[object, ...]:
    """What a move says, apart from the names that a store gives."""
    return (
        move.action,
        move.actor,
        move.reason,
        move.at,
        move.promotion_id,
        targets_text(move.before),
        targets_text(move.to),
    )


def same(one: Registry, other: Registry) -> bool:
    for name in (SUPPORT, LEGAL):
        mine, theirs = one.show(name), other.show(name)
        assert [v.manifest for v in mine.versions] == [v.manifest for v in theirs.versions]
        assert [v.version.number for v in mine.versions] == [v.version.number for v in theirs.versions]
        assert [v.publication for v in mine.versions] == [v.publication for v in theirs.versions]
        assert [told(m) for m in one.history(name)] == [told(m) for m in other.history(name)]
        for state in theirs.versions:
            other.fetch(state.version)
    return True


@pytest.fixture
def lived(desk: Desk) -> Desk:
    """A registry in which something happened."""
    for seed in (1, 2, 3):
        desk.publish(seed)
    desk.publish(9, LEGAL)
    for number in (1, 2):
        desk.registry.promote(SUPPORT, "prod", number, actor="ada", reason=f"try {number}")
    desk.registry.split(SUPPORT, "canary", {3: 10, 2: 90})
    desk.registry.rollback(SUPPORT, "prod", reason="worse")
    desk.registry.unset(SUPPORT, "canary")
    return desk


def test_a_mirror_has_the_versions_the_aliases_and_their_history(lived: Desk, folder: Registry) -> None:
    done = mirror(lived.registry, folder)
    assert (len(done.versions), len(done.moves)) == (4, 5)
    assert same(lived.registry, folder)
    assert folder.resolve(ref("acme/support@prod")).number == 1
    folder.verify()


def test_a_mirror_back_into_the_store_has_them_too(lived: Desk, folder: Registry, tmp_path: Path) -> None:
    mirror(lived.registry, folder, [LEGAL])
    version = folder.publish(lived.adapter(5), LEGAL, base=lived.base)
    folder.promote(LEGAL, "prod", version.number, reason="from the folder")
    done = mirror(folder, lived.registry)
    assert ([v.number for v in done.versions], [m.reason for m in done.moves]) == ([2], ["from the folder"])
    assert lived.registry.resolve(ref("globex/legal")).manifest_sha256 == version.manifest_sha256


def test_a_mirror_run_again_copies_what_is_new_and_nothing_else(lived: Desk, folder: Registry) -> None:
    mirror(lived.registry, folder)
    assert mirror(lived.registry, folder).versions == ()
    lived.publish(4)
    lived.registry.promote(SUPPORT, "prod", 4)
    done = mirror(lived.registry, folder)
    assert ([v.number for v in done.versions], len(done.moves)) == ([4], 1)
    assert same(lived.registry, folder)


class Meanwhile(FailingStore):
    """A store in which something happens while its versions are listed."""

    def __init__(self, store: Store, act: Callable[[], object]) -> None:
        super().__init__(store)
        self._act = act

    def publications(self, adapter: AdapterName) -> Mapping[str, Publication]:
        told = super().publications(adapter)
        self._act()
        return told


def test_a_version_that_is_published_and_promoted_during_a_mirror_comes_with_the_next_one(
    lived: Desk, store: Store, folder: Registry, tmp_path: Path
) -> None:
    def act() -> None:
        lived.registry.promote(SUPPORT, "prod", lived.publish(4).number, promotion_id="deploy-4")

    busy = Meanwhile(store, act)
    knowledge = Knowledge(busy, Recollection(tmp_path / "busy", busy.url), fresh_seconds=0)
    with Registry(busy, knowledge, Cache(tmp_path / "busy-cache")) as source:
        mirror(source, folder)
    folder.verify()
    assert folder.resolve(ref("acme/support@prod")).number == 1
    mirror(lived.registry, folder)
    assert folder.fetch(folder.resolve(ref("acme/support@prod"))).is_dir()
    assert same(lived.registry, folder)


def test_versions_that_were_let_go_on_either_side_do_not_stop_a_mirror(desk: Desk, folder: Registry) -> None:
    for seed in (1, 2, 3):
        desk.publish(seed)
    for number in (1, 3):
        desk.registry.promote(SUPPORT, "prod", number)
    collect(desk.registry, Retention(last=1, days=0), dry_run=False)
    mirror(desk.registry, folder)
    assert [told(m) for m in folder.history(SUPPORT)] == [told(m) for m in desk.registry.history(SUPPORT)]
    desk.publish(4)
    desk.registry.promote(SUPPORT, "prod", 4)
    mirror(desk.registry, folder)
    collect(folder, Retention(last=1, days=0), dry_run=False)
    for number in (3, 4):
        desk.registry.promote(SUPPORT, "prod", number)
    mirror(desk.registry, folder)
    folder.verify()
    assert folder.resolve(ref("acme/support@prod")).number == 4
    assert [targets_text(move.to) for move in folder.history(SUPPORT)] == ["v1", "v3", "v4", "v3", "v4"]


def test_history_of_versions_that_are_gone_comes_to_every_kind_of_store(
    desk: Desk, open_desk: Callable[[], Desk], tmp_path: Path
) -> None:
    with open_registry(tmp_path / "source", cache=tmp_path / "source-cache") as source:
        origin = Desk(source, desk.base, tmp_path / "origin")
        for seed in (1, 2):
            origin.publish(seed)
            source.promote(SUPPORT, "prod", seed)
        collect(source, Retention(last=1, days=0), dry_run=False)
        mirror(source, desk.registry)
        assert [targets_text(move.to) for move in desk.registry.history(SUPPORT)] == ["v1", "v2"]
    desk.registry.verify()
    version = desk.registry.resolve(ref("acme/support@prod"))
    assert version.number == 2
    assert (desk.registry.fetch(version) / "adapter_model.safetensors").is_file()


def test_a_registry_that_went_another_way_is_not_overwritten(lived: Desk, folder: Registry) -> None:
    folder.publish(lived.adapter(7), SUPPORT, base=lived.base)
    with pytest.raises(Refused, match="acme/support@v1 has other content"):
        mirror(lived.registry, folder)


def test_an_alias_that_was_moved_there_by_others_is_not_overwritten(lived: Desk, folder: Registry) -> None:
    mirror(lived.registry, folder)
    folder.promote(SUPPORT, "prod", 3)
    lived.registry.promote(SUPPORT, "prod", 2)
    with pytest.raises(Refused, match=r"moved in .* by others too"):
        mirror(lived.registry, folder)
