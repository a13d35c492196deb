"""Files: which make a version, and which must not lie beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lora import BASE_CONFIG, encode, tensors

from hotshoe.adapter.errors import Unservable
from hotshoe.registry.inspect import inspect, version_files

WEIGHTS = "adapter_model.safetensors"


def codes(folder: Path) -> set[str]:
    return {finding.code for finding in inspect(folder, BASE_CONFIG).errors}


def test_a_version_is_config_weights_and_card_and_nothing_else(adapter: Path) -> None:
    (adapter / "README.md").write_text("# hello")
    (adapter / "tokenizer_config.json").write_text("{}")
    (adapter / "checkpoint-10").mkdir()
    assert version_files(adapter) == ("README.md", "adapter_config.json", WEIGHTS)


@pytest.mark.parametrize("name", ["adapter_config.json", WEIGHTS])
def test_a_folder_without_a_required_file_is_refused(adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    assert codes(adapter) == {"MISSING_FILE"}
    with pytest.raises(Unservable, match=name):
        version_files(adapter)


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "training_args.bin", "x.PT", "a.pth", "o.pkl", "m.ckpt"]
)
def test_a_pickle_is_refused_by_its_name(adapter: Path, name: str) -> None:
    (adapter / name).write_bytes(b"")
    assert codes(adapter) == {"PICKLE"}


def test_a_pickle_in_a_subfolder_is_refused_too(adapter: Path) -> None:
    (adapter / "checkpoint-10").mkdir()
    (adapter / "checkpoint-10" / "optimizer.pt").write_bytes(b"")
    assert codes(adapter) == {"PICKLE"}


def _link(folder: Path) -> None:
    (folder / "extra.txt").symlink_to("/etc/hostname")


def _link_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


def _pipe(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def _shards(folder: Path) -> None:
    (folder / "adapter_model-00002-of-00002.safetensors").write_bytes(encode(tensors()))


def _own(folder: Path) -> None:
    (folder / ".hotshoe").mkdir()
    (folder / ".hotshoe" / "evil.py").write_text("")


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("SYMLINK", _link),
        ("NOT_A_FILE", _link_weights),
        ("NOT_A_FILE", _pipe),
        ("EXTRA_WEIGHTS", _shards),
        ("FOREIGN_FILE", _own),
        ("CASE_COLLISION", lambda folder: (folder / "Adapter_Config.json").write_text("{}")),
        ("BAD_NAME", lambda folder: (folder / "..\\..\\evil").write_text("")),
        ("BAD_NAME", lambda folder: (folder / "line\nbreak").write_text("")),
    ],
)
def test_a_surprise_in_the_folder_is_refused(
    adapter: Path, code: str, spoil: Callable[[Path], object]
) -> None:
    spoil(adapter)
    assert codes(adapter) == {code}


def test_what_a_trainer_leaves_beside_the_adapter_is_left_out_with_a_warning(adapter: Path) -> None:
    (adapter / "chat_template.jinja").write_text("")
    (adapter / ".cache").mkdir()
    (adapter / ".cache" / "x.bin").write_bytes(b"")
    (adapter / ".hotshoe").mkdir()
    (adapter / ".hotshoe" / "manifest.json").write_text("{}")
    assert [finding.code for finding in inspect(adapter, BASE_CONFIG).findings] == ["LEFT_OUT"]


def test_tokens_that_the_base_lacks_are_refused(adapter: Path) -> None:
    (adapter / "added_tokens.json").write_text(json.dumps({"<tool>": 100}))
    assert codes(adapter) == {"EXTRA_VOCABULARY"}
    (adapter / "added_tokens.json").unlink()
    (adapter / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 99, "content": "<s>"}]}))
    assert codes(adapter) == set()


def test_what_lay_beside_the_files_before_they_were_copied_counts(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for name in version_files(adapter):
        (tmp_path / "copy" / name).write_bytes((adapter / name).read_bytes())
    (adapter / "training_args.bin").write_bytes(b"")
    (adapter / "added_tokens.json").write_text(json.dumps({"<tool>": 100}))
    found = inspect(tmp_path / "copy", BASE_CONFIG, origin=adapter).errors
    assert {finding.code for finding in found} == {"PICKLE", "EXTRA_VOCABULARY"}


def test_a_folder_that_is_none_is_a_finding(tmp_path: Path) -> None:
    assert codes(tmp_path / "nothing") == {"NO_FOLDER"}


def test_oversized_weights_are_refused_without_being_read(adapter: Path) -> None:
    with (adapter / WEIGHTS).open("r+b") as file:
        file.truncate((8 << 30) + 1)
    assert codes(adapter) == {"OVERSIZED"}


def test_the_error_tells_the_first_findings_and_counts_the_rest(adapter: Path) -> None:
    for number in range(8):
        (adapter / f"{number}.bin").write_bytes(b"")
    with pytest.raises(Unservable) as caught:
        inspect(adapter, BASE_CONFIG).raise_for_errors()
    assert "8 errors" in caught.value.message
    assert "0.bin" in caught.value.message
    assert "and 3 more" in caught.value.message
    assert caught.value.details["code"] == "PICKLE"


def test_a_sound_adapter_raises_nothing(adapter: Path) -> None:
    inspect(adapter, BASE_CONFIG).raise_for_errors()
