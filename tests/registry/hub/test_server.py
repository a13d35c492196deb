"""The Hub of the tests itself: the real client can do with it what it does with the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from support.hub.server import HubServer

REPO = "acme/support"
WEIGHTS = bytes(range(256)) * 20_000


@pytest.fixture
def api(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return HfApi(hub.url, hub.token)


@pytest.fixture
def first(api: HfApi) -> str:
    """The commit that put a card, weights and a config into the repo."""
    api.create_repo(REPO, private=True)
    files = {"README.md": b"---\ntags: [hotshoe]\n---\nhi", "a.safetensors": WEIGHTS, "config.json": b"{}"}
    additions = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(REPO, additions, commit_message="one", commit_description="more of it").oid


def test_refs_branches_and_tags_come_and_go(api: HfApi, first: str) -> None:
    api.create_tag(REPO, tag="v1", revision=first)
    api.create_branch(REPO, branch="prod", revision="v1")
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)} == dict.fromkeys(
        ("main", "prod", "v1"), first
    )
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="prod")
    assert [ref.name for ref in api.list_repo_refs(REPO).branches] == ["main"]
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(REPO, branch="main")


def test_a_commit_on_a_parent_that_is_old_is_refused(api: HfApi, first: str) -> None:
    api.create_commit(REPO, [CommitOperationAdd("x", b"1")], commit_message="two", parent_commit=first)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit(REPO, [CommitOperationAdd("x", b"2")], commit_message="late", parent_commit=first)
    assert caught.value.response.status_code == 412


def test_files_are_copied_and_deleted_by_a_commit(api: HfApi, first: str) -> None:
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
        CommitOperationCopy("a.safetensors", "b.safetensors", src_revision=first),
        CommitOperationCopy("config.json", "other.json", src_revision=first),
        CommitOperationDelete("README.md"),
    ]
    api.create_commit(REPO, operations, commit_message="two")
    tree = {file.path: file for file in api.list_repo_tree(REPO) if isinstance(file, RepoFile)}
    assert tree.keys() == {".gitattributes", "a.safetensors", "b.safetensors", "config.json", "other.json"}
    assert tree["a.safetensors"].lfs == tree["b.safetensors"].lfs
    assert tree["config.json"].lfs is None


def test_a_log_of_many_pages_tells_titles_and_messages(hub: HubServer, api: HfApi, first: str) -> None:
    hub.page_size = 2
    for number in range(4):
        api.create_commit(REPO, [CommitOperationAdd("x", b"%d" % number)], commit_message=f"turn {number}")
    log = api.list_repo_commits(REPO)
    assert [entry.title for entry in log] == ["turn 3", "turn 2", "turn 1", "turn 0", "one", "initial commit"]
    assert log[4].message == "more of it"


def test_a_snapshot_of_a_commit_has_the_bytes(api: HfApi, first: str, tmp_path: Path) -> None:
    folder = Path(api.snapshot_download(REPO, revision=first, cache_dir=tmp_path))
    assert (folder / "a.safetensors").read_bytes() == WEIGHTS
    assert (folder / "config.json").read_bytes() == b"{}"


def test_models_are_listed_by_author_and_tag_for_those_who_may_see_them(
    hub: HubServer, api: HfApi, first: str
) -> None:
    assert [info.id for info in api.list_models(author="acme", filter="hotshoe")] == [REPO]
    assert list(api.list_models(author="globex")) == []
    assert list(HfApi(hub.url, "hf_stranger").list_models(author="acme")) == []


def test_what_is_not_there_is_told_as_the_real_hub_tells_it(hub: HubServer, api: HfApi, first: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_commits(REPO, revision="nowhere")
    with pytest.raises(RepositoryNotFoundError):
        api.list_repo_refs("acme/nothing")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(hub.url, False).list_repo_refs(REPO)
    api.delete_repo(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.list_repo_refs(REPO)


def test_a_card_with_broken_metadata_is_refused(api: HfApi, first: str) -> None:
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.create_commit(REPO, [CommitOperationAdd("README.md", b"---\na: [\n---\n")], commit_message="bad")
