from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from support.lora import BASE_CONFIG, tensors, write_adapter

from hotshoe.adapter.errors import HotshoeError, InvalidRequest, NotFound, Unservable
from hotshoe.registry.importing import import_adapter
from hotshoe.registry.inspect import inspect


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """What a trainer of somebody else left: the adapter, and much beside it."""
    folder = write_adapter(tmp_path / "foreign")
    (folder / "README.md").write_text("# mine")
    (folder / "training_args.bin").write_bytes(b"")
    (folder / "checkpoint-10").mkdir()
    (folder / "tokenizer.json").write_text("{}")
    return folder


def legacy(folder: Path, content: object) -> Path:
    torch = pytest.importorskip("torch")
    write_adapter(folder)
    (folder / "adapter_model.safetensors").unlink()
    torch.save(content, folder / "adapter_model.bin")
    return folder


def test_only_the_adapters_own_files_are_taken(foreign: Path, tmp_path: Path) -> None:
    taken = import_adapter(foreign, tmp_path / "taken")
    names = {path.name for path in taken.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json"}
    assert inspect(taken, BASE_CONFIG).errors == ()


def test_a_hub_repo_comes_through_the_given_door(foreign: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def fetch(repo: str) -> Path:
        asked.append(repo)
        return foreign

    import_adapter("hf-org/some-lora@main", tmp_path / "taken", fetch=fetch)
    assert asked == ["hf-org/some-lora@main"]


def test_a_snapshot_in_the_hub_cache_is_followed_into_its_blobs(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0f"
    snapshot.mkdir(parents=True)
    write_adapter(blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(os.path.relpath(path, snapshot))
    taken = import_adapter(snapshot, tmp_path / "taken")
    assert inspect(taken, BASE_CONFIG).findings == ()


def test_a_link_out_of_the_folder_is_refused(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    (foreign / "README.md").unlink()
    (foreign / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(Unservable, match=r"README\.md is a link"):
        import_adapter(foreign, tmp_path / "taken")


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "hf-org/some-lora"])
def test_what_is_neither_folder_nor_fetched_is_not_found(tmp_path: Path, source: str) -> None:
    with pytest.raises(NotFound, match=source):
        import_adapter(source, tmp_path / "taken")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_lacks_a_part_is_no_adapter(foreign: Path, tmp_path: Path, name: str) -> None:
    (foreign / name).unlink()
    with pytest.raises(Unservable, match=name):
        import_adapter(foreign, tmp_path / "taken")


def test_a_pickle_needs_leave(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--allow-pickle"):
        import_adapter(legacy(tmp_path / "old", {}), tmp_path / "taken")


def test_a_pickle_of_tensors_becomes_safetensors_with_the_same_numbers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    made = {name: torch.from_numpy(value) for name, value in tensors().items()}
    taken = import_adapter(legacy(tmp_path / "old", made), tmp_path / "taken", allow_pickle=True)
    assert not (taken / "adapter_model.bin").exists()
    assert inspect(taken, BASE_CONFIG).findings == ()
    from safetensors.torch import load_file

    read = load_file(taken / "adapter_model.safetensors")
    assert set(read) == set(made)
    assert all(torch.equal(read[name], made[name]) for name in made)


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    folder = legacy(tmp_path / "old", {"a": Evil(tmp_path / "ran")})
    with pytest.raises(Unservable, match="no file of plain tensors"):
        import_adapter(folder, tmp_path / "taken", allow_pickle=True)
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(Unservable, match="no file of plain tensors"):
        import_adapter(folder, tmp_path / "taken", allow_pickle=True)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "taken" / "adapter_model.safetensors").exists()


def test_a_small_pickle_cannot_become_a_large_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    folder = legacy(tmp_path / "old", {"a": torch.zeros(1).expand(1 << 30)})
    with pytest.raises(Unservable, match="larger than the file"):
        import_adapter(folder, tmp_path / "taken", allow_pickle=True)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: 2}])
def test_a_pickle_of_other_things_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(Unservable, match="something else than tensors"):
        import_adapter(legacy(tmp_path / "old", content), tmp_path / "taken", allow_pickle=True)


def test_a_conversion_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(HotshoeError, match=r"over 0\.05 seconds"):
        import_adapter(legacy(tmp_path / "old", {}), tmp_path / "taken", allow_pickle=True, seconds=0.05)
