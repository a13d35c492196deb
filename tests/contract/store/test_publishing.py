"""Publishing, the same in every store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.adapters import LEGAL, SUPPORT, leave_manifest, make_base, ref
from support.desk import Desk

from hotshoe.adapter.errors import (
    AdapterNotFound,
    BaseMismatch,
    InvalidRequest,
    Unservable,
    VersionNotFound,
)
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest


def test_the_first_version_is_v1_and_the_next_v2(desk: Desk) -> None:
    first, second = desk.publish(1), desk.publish(2)
    assert (str(first), str(second)) == ("acme/support@v1", "acme/support@v2")
    assert first.commit != second.commit
    assert first.manifest_sha256 != second.manifest_sha256


def test_the_same_content_again_is_the_same_version(desk: Desk) -> None:
    first = desk.publish(1)
    desk.publish(2)
    assert desk.publish(1) == first
    assert [state.version.number for state in desk.registry.show(SUPPORT).versions] == [1, 2]


def test_adapters_count_their_versions_apart(desk: Desk) -> None:
    desk.publish(1)
    assert desk.publish(1, LEGAL).number == 1


def test_a_version_is_listed_with_who_published_it_and_why(desk: Desk) -> None:
    version = desk.publish(1)
    (state,) = desk.registry.show(SUPPORT).versions
    assert state.version == version
    assert (state.publication.actor, state.publication.message) == ("ada", "seed 1")
    assert state.publication.at.utcoffset() is not None
    assert state.manifest.base == desk.base.base


def test_rank_alpha_and_targets_are_read_from_the_files(desk: Desk) -> None:
    manifest = desk.registry.manifest(desk.publish(1))
    assert (manifest.rank, manifest.alpha) == (4, 8.0)
    assert manifest.targets == ("down_proj", "q_proj")
    assert [entry.path for entry in manifest.files] == ["adapter_config.json", "adapter_model.safetensors"]


def test_what_the_trainer_wrote_down_is_kept(desk: Desk) -> None:
    folder = leave_manifest(
        desk.adapter(1),
        desk.base.base,
        training={"recipe": "sft"},
        metrics={"exact": 0.9},
        parent="acme/support@v3",
    )
    manifest = desk.registry.manifest(desk.registry.publish(folder, SUPPORT))
    assert manifest.adapter == "acme/support"
    assert (manifest.training, manifest.metrics, manifest.parent) == (
        {"recipe": "sft"},
        {"exact": 0.9},
        "acme/support@v3",
    )
    assert manifest.rank == 4
    assert len(manifest.files) == 2


def test_a_folder_that_names_no_base_is_refused_with_what_to_do(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="--base"):
        desk.registry.publish(desk.adapter(1), SUPPORT)


def test_a_folder_trained_for_another_base_is_refused(desk: Desk) -> None:
    folder = leave_manifest(desk.adapter(1), desk.base.base)
    with pytest.raises(BaseMismatch, match="another"):
        desk.registry.publish(folder, SUPPORT, base=make_base(desk.folder / "other", "another"))


def test_a_folder_that_is_not_there_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="nowhere"):
        desk.registry.publish(desk.folder / "nowhere", SUPPORT, base=desk.base)


def test_a_folder_that_inspection_refuses_leaves_nothing_behind(desk: Desk) -> None:
    folder = desk.adapter(1)
    (folder / "adapter_model.safetensors").write_bytes(b"cut short")
    with pytest.raises(Unservable):
        desk.registry.publish(folder, SUPPORT, base=desk.base)
    with pytest.raises(AdapterNotFound):
        desk.registry.show(SUPPORT)


def test_only_the_config_the_weights_and_the_manifest_are_loaded_from_a_version(desk: Desk) -> None:
    folder = desk.adapter(1)
    (folder / "README.md").write_text("what PEFT writes")
    fetched = desk.registry.fetch(desk.registry.publish(folder, SUPPORT, base=desk.base))
    found = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}
    assert found == {"adapter_config.json", "adapter_model.safetensors", MANIFEST_PATH}


@pytest.mark.parametrize("words", [{"message": "x" * 4001}, {"message": "\ud800"}, {"actor": "\udcff"}])
def test_a_message_that_no_log_could_keep_is_refused(desk: Desk, words: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"the (message|actor) "):
        desk.registry.publish(desk.adapter(1), SUPPORT, base=desk.base, **words)


def test_racing_publishers_get_distinct_consecutive_versions(open_desk: Callable[[], Desk]) -> None:
    desks = [open_desk() for _ in range(4)]
    folders = [desks[0].adapter(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        versions = list(
            pool.map(
                lambda i: desks[i % 4].registry.publish(folders[i], SUPPORT, base=desks[0].base), range(12)
            )
        )
    assert sorted(version.number for version in versions) == list(range(1, 13))
    assert [state.version.number for state in desks[0].registry.show(SUPPORT).versions] == list(range(1, 13))


def test_racing_publishers_of_the_same_content_make_one_version(open_desk: Callable[[], Desk]) -> None:
    desks = [open_desk() for _ in range(4)]
    folder = desks[0].adapter(1)
    with ThreadPoolExecutor(8) as pool:
        versions = set(
            pool.map(lambda i: desks[i % 4].registry.publish(folder, SUPPORT, base=desks[0].base), range(8))
        )
    assert {version.number for version in versions} == {1}
    assert len(versions) == 1


def test_the_manifest_in_the_tree_is_the_one_the_version_is_named_by(desk: Desk) -> None:
    version = desk.publish(1)
    data = desk.registry.store.read(SUPPORT, version.commit, MANIFEST_PATH)
    assert Manifest.parse(data).sha256 == version.manifest_sha256


def test_a_version_is_found_by_its_number_and_by_its_commit(desk: Desk) -> None:
    first, second = desk.publish(1), desk.publish(2)
    assert desk.registry.resolve(ref("acme/support@v1")) == first
    assert desk.registry.resolve(ref(f"acme/support@{second.commit}")) == second


def test_a_version_that_is_not_there_is_named_with_those_that_are(desk: Desk) -> None:
    desk.publish(1)
    with pytest.raises(VersionNotFound, match="no version v9; it has: v1"):
        desk.registry.resolve(ref("acme/support@v9"))
    with pytest.raises(VersionNotFound, match="it has: v1"):
        desk.registry.resolve(ref(f"acme/support@{'0' * 40}"))


def test_an_adapter_that_is_not_there_is_named(desk: Desk) -> None:
    with pytest.raises(AdapterNotFound, match="acme/support"):
        desk.registry.resolve(ref("acme/support@v1"))
