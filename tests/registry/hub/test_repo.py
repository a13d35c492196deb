"""What lies on the Hub: readable by anybody's tools, and proof against hands that edit it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from support import tiny
from support.adapters import LEGAL, SUPPORT, leave_manifest, ref
from support.desk import Desk
from support.hub.server import HubServer

from hotshoe.adapter.errors import AdapterNotFound, InvalidRequest, Tampered
from hotshoe.adapter.manifest import MANIFEST_PATH, Base
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import BaseModel
from hotshoe.registry import hub as hub_module
from hotshoe.registry.values import ALIAS_PATH, Change

WEIGHTS = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    """Somebody who works on the Hub without Hotshoe."""
    return HfApi(hub.url, hub.token)


def edit(api: HfApi, branch: str, path: str, content: bytes) -> None:
    api.create_commit(
        str(SUPPORT), [CommitOperationAdd(path, content)], commit_message="by hand", revision=branch
    )


# For tools that have never heard of Hotshoe.


def test_an_alias_is_a_branch_that_holds_the_version_and_says_so(hub: HubServer, desk: Desk) -> None:
    desk.publish(1)
    second = desk.publish(2)
    desk.registry.promote(SUPPORT, "prod", 1)
    desk.registry.promote(SUPPORT, "prod", 2)
    tree = hub.repos["acme/support"].resolve("prod").tree
    assert tree.keys() == WEIGHTS | {".gitattributes", MANIFEST_PATH, ALIAS_PATH}
    for name in WEIGHTS:
        assert tree[name].data == (desk.adapter(2) / name).read_bytes()
    assert second.commit.encode() in tree[ALIAS_PATH].data


def test_a_version_is_a_tag_whose_tree_has_no_file_of_an_older_one(
    hub: HubServer, desk: Desk, api: HfApi
) -> None:
    desk.publish(1)
    edit(api, "main", "notes/old.txt", b"stale")
    desk.publish(2)
    repo = hub.repos["acme/support"]
    assert "notes/old.txt" not in repo.resolve("v2").tree
    assert repo.resolve("v2").sha == repo.branches["main"]


def test_the_repo_is_private_and_its_card_names_base_metrics_and_training(hub: HubServer, desk: Desk) -> None:
    folder = leave_manifest(
        desk.adapter(1),
        Base("meta/tiny", "a" * 40, "0" * 64),
        training={"recipe": "sft", "tags": ["mail"], "config": {"rank": 4}},
        metrics={"exact": 0.875},
    )
    desk.registry.publish(folder, SUPPORT)
    repo = hub.repos["acme/support"]
    card = ModelCard(repo.resolve("main").tree["README.md"].data.decode())
    data = card.data.to_dict()  # type: ignore[no-untyped-call]
    assert repo.private
    assert (data["base_model"], data["base_model_relation"]) == ("meta/tiny", "adapter")
    assert data["tags"] == ["hotshoe", "lora", "peft", "mail"]
    assert data["model-index"][0]["results"][0]["metrics"] == [
        {"name": "exact", "type": "exact", "value": 0.875}
    ]
    assert "| config.rank | 4 |" in card.text


def test_peft_loads_an_alias_with_no_hotshoe_in_between(
    hub: HubServer, desk: Desk, tmp_path: Path, tiny_base: Path
) -> None:
    folder = tiny.build_adapter(tmp_path / "support", seed=1)
    desk.registry.publish(folder, SUPPORT, base=BaseModel(tiny_base, Base("tiny", "", "0" * 64)))
    desk.registry.promote(SUPPORT, "prod", 1)
    program = (
        "from peft import PeftModel; from transformers import AutoModelForCausalLM; import sys\n"
        "base = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "model = PeftModel.from_pretrained(base, 'acme/support', revision='prod')\n"
        "print(model.peft_config['default'].r, 'hotshoe' in sys.modules)"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_base)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rank, hotshoe = done.stdout.split()
    assert int(rank) > 0
    assert hotshoe == "False"


def test_a_long_history_is_read_to_its_end(hub: HubServer, desk: Desk) -> None:
    hub.page_size = 3
    for seed in (1, 2):
        desk.publish(seed)
    for turn in range(6):
        desk.registry.promote(SUPPORT, "prod", 1 + turn % 2)
    assert len(desk.registry.history(SUPPORT, "prod")) == 6
    assert len(desk.registry.show(SUPPORT).versions) == 2


# Hands that edit.


def test_an_edit_of_main_by_hand_is_no_version_and_does_not_stop_the_next(desk: Desk, api: HfApi) -> None:
    first = desk.publish(1)
    edit(api, "main", "README.md", b"hello")
    assert desk.registry.resolve(ref("acme/support@v1")) == first
    assert desk.publish(2).number == 2


def test_an_edit_on_top_of_a_commit_that_got_no_tag_does_not_become_the_version(
    hub: HubServer, desk: Desk, api: HfApi
) -> None:
    hub.fail("POST", "/tag/", 403)
    with pytest.raises(Exception, match="may not change"):
        desk.publish(1)
    edit(api, "main", "adapter_config.json", b"{}")
    assert desk.publish(2).number == 2
    folder = desk.registry.fetch(desk.registry.resolve(ref("acme/support@v1")))
    assert (folder / "adapter_config.json").read_bytes() == (
        desk.adapter(1) / "adapter_config.json"
    ).read_bytes()


def test_a_branch_made_by_hand_is_an_alias_that_points_nowhere(desk: Desk, api: HfApi) -> None:
    desk.publish(1)
    api.create_branch(str(SUPPORT), branch="experiment")
    edit(api, "experiment", "notes.txt", b"mine")
    assert desk.registry.show(SUPPORT).aliases == {}
    assert desk.registry.promote(SUPPORT, "experiment", 1, expected="").version is not None


def test_branches_and_tags_of_other_names_are_nobodys(desk: Desk, api: HfApi) -> None:
    desk.publish(1)
    api.create_branch(str(SUPPORT), branch="Feature_X")
    api.create_tag(str(SUPPORT), tag="release-1")
    refs = desk.registry.store.refs(SUPPORT)
    assert (list(refs.versions), refs.aliases) == ([1], {})


def test_a_repo_without_versions_is_no_adapter(hub: HubServer, desk: Desk, api: HfApi) -> None:
    api.create_repo("acme/base-model")
    assert desk.registry.adapters() == []
    with pytest.raises(AdapterNotFound, match="publish one first"):
        desk.registry.show(AdapterName("acme", "base-model"))


def test_an_adapter_of_another_organization_is_told_where_to_look(desk: Desk) -> None:
    with pytest.raises(AdapterNotFound, match="hub://umbrella"):
        desk.registry.resolve(ref("umbrella/support"))


def test_a_version_with_a_file_that_its_manifest_does_not_list_is_refused_by_its_name(
    hub: HubServer, desk: Desk, api: HfApi
) -> None:
    desk.publish(1)
    edit(api, "main", "adapter_model.bin", b"pickle")
    api.create_tag(str(SUPPORT), tag="v2")
    with pytest.raises(Tampered, match=r"adapter_model\.bin"):
        desk.registry.fetch(desk.registry.resolve(ref("acme/support@v2")))
    assert not any("adapter_model.bin" in request.path for request in hub.requests)


def test_what_is_as_hotshoe_left_it_is_proven(desk: Desk) -> None:
    for seed in (1, 2):
        desk.publish(seed)
        desk.registry.promote(SUPPORT, "prod", seed)
    desk.registry.rollback(SUPPORT, "prod")
    assert desk.registry.store.verify().entries == 5
    with pytest.raises(InvalidRequest, match="verify it without one"):
        desk.registry.store.verify("0" * 64)


def test_an_alias_branch_edited_by_hand_is_found(desk: Desk, api: HfApi) -> None:
    desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    edit(api, "prod", "adapter_config.json", b"{}")
    with pytest.raises(Tampered, match="changed by hand"):
        desk.registry.store.verify()


def test_a_tag_moved_by_hand_is_found(desk: Desk, api: HfApi) -> None:
    for seed in (1, 2):
        desk.publish(seed)
    api.delete_tag(str(SUPPORT), tag="v1")
    api.create_branch(str(SUPPORT), branch="evil", revision="v2")
    edit(api, "evil", "README.md", b"mine")
    api.create_tag(str(SUPPORT), tag="v1", revision="evil")
    with pytest.raises(Tampered, match="not on main"):
        desk.registry.store.verify()
    with pytest.raises(Tampered, match="none that was published"):
        desk.registry.show(SUPPORT)


@pytest.mark.parametrize(("tag", "onto"), [("v2", "v1"), ("v1", "v2"), ("v2", "v3")])
def test_a_tag_moved_onto_another_version_is_found(desk: Desk, api: HfApi, tag: str, onto: str) -> None:
    for seed in (1, 2, 3):
        desk.publish(seed)
    api.delete_tag(str(SUPPORT), tag=tag)
    api.create_tag(str(SUPPORT), tag=tag, revision=onto)
    with pytest.raises(Tampered, match="not in the order of main"):
        desk.registry.store.verify()


def test_an_alias_of_a_version_whose_tag_is_gone_is_found(desk: Desk, api: HfApi) -> None:
    for seed in (1, 2):
        desk.publish(seed)
    desk.registry.promote(SUPPORT, "prod", 1)
    api.delete_tag(str(SUPPORT), tag="v1")
    with pytest.raises(Tampered, match="whose tag is gone"):
        desk.registry.store.verify()


def test_a_repo_that_somebody_broke_hides_no_other_from_a_listing(
    hub: HubServer, desk: Desk, api: HfApi, caplog: pytest.LogCaptureFixture
) -> None:
    desk.publish(1)
    desk.publish(1, LEGAL)
    edit(api, "main", MANIFEST_PATH, b"{}")
    api.create_tag(str(SUPPORT), tag="v2")
    with caplog.at_level(logging.WARNING):
        assert [each.adapter for each in desk.registry.adapters()] == [LEGAL]
    assert "acme/support is left out of the listing" in caplog.text
    with pytest.raises(Tampered):
        desk.registry.verify()


def test_a_repo_of_more_files_than_an_adapter_has_is_refused_before_all_are_listed(
    hub: HubServer, desk: Desk, api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = desk.publish(1)
    for number in range(8):
        edit(api, "main", f"more/{number}", b"")
    api.create_tag(str(SUPPORT), tag="v2")
    monkeypatch.setattr(hub_module, "MAX_FILES", 6)
    hub.page_size = 2
    before = hub.count()
    with pytest.raises(Tampered, match="over 6 files"):
        desk.registry.fetch(desk.registry.resolve(ref("acme/support@v2")))
    assert sum("/tree/" in request.path for request in hub.requests[before:]) == 4
    assert desk.registry.fetch(version).is_dir()


# What moved.


def test_a_change_is_not_asked_for_again_before_its_time(
    hub: HubServer, open_desk: Callable[..., Desk]
) -> None:
    mine, other = open_desk(options="poll_seconds=600"), open_desk()
    other.publish(1)
    _, cursor = mine.registry.changes(None, [SUPPORT])
    other.publish(2)
    before = hub.count()
    assert mine.registry.changes(cursor, [SUPPORT]) == ([], cursor)
    assert hub.count() == before


def test_a_hint_makes_a_change_known_at_once(open_desk: Callable[..., Desk]) -> None:
    mine, other = open_desk(options="poll_seconds=600"), open_desk()
    other.publish(1)
    _, cursor = mine.registry.changes(None, [SUPPORT])
    move = other.registry.promote(SUPPORT, "prod", 1)
    mine.registry.store.hint(SUPPORT)  # type: ignore[attr-defined]
    assert mine.registry.changes(cursor, [SUPPORT])[0] == [Change(SUPPORT, "prod", move.etag)]
