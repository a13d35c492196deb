"""From one registry into another, whatever stores they have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.adapters import LEGAL, SUPPORT, ref
from support.desk import Desk

from hotshoe.adapter.errors import Refused
from hotshoe.registry import Registry, open_registry, targets_text
from hotshoe.registry.mirror import mirror
from hotshoe.registry.values import Move


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
