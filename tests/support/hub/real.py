"""The contract's adapters on a real Hub: `acme/support` as `ORG/PREFIX-RUN-acme-support`, deleted at the end.

`HOTSHOE_HUB_TEST_REPO=ORG/PREFIX` and a token that may write to ORG switch it on.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from huggingface_hub import HfApi

from hotshoe.registry.hub import Draft, Entry, Heads, Hub, LogEntry

VARIABLE = "HOTSHOE_HUB_TEST_REPO"


def wanted() -> bool:
    """Whether the tests are to run on a real Hub too."""
    return bool(os.environ.get(VARIABLE))


class RenamedHub(Hub):
    """A Hub whose repos have other names there than here, all of them under one prefix."""

    def __init__(self, prefix: str, endpoint: str | None = None, token: str | None = None) -> None:
        super().__init__(endpoint, token)
        self._prefix = f"{prefix}-{secrets.token_hex(3)}"
        self._admin = HfApi(self.endpoint, token)
        self._here: dict[str, str] = {}

    def repos(self, org: str) -> Iterator[str]:
        here = self._there(f"{org}/")
        for repo in super().repos(self._prefix.split("/")[0]):
            if repo.startswith(here):
                yield f"{org}/{repo.removeprefix(here)}"

    def heads(self, repo: str) -> Heads:
        return super().heads(self._there(repo))

    def log(self, repo: str, revision: str) -> list[LogEntry]:
        return super().log(self._there(repo), revision)

    def _get_tree(self, repo: str, commit: str) -> Mapping[str, Entry]:
        return super()._get_tree(self._there(repo), commit)

    def _get_small_file(self, repo: str, commit: str, path: str) -> bytes:
        return super()._get_small_file(self._there(repo), commit, path)

    def download(self, repo: str, commit: str, paths: Iterable[str], folder: Path) -> None:
        super().download(self._there(repo), commit, paths, folder)

    def create(self, repo: str, *, private: bool) -> None:
        super().create(self._there(repo), private=private)

    def commit(self, repo: str, branch: str, parent: str, draft: Draft) -> str:
        return super().commit(self._there(repo), branch, parent, draft)

    def tag(self, repo: str, name: str, commit: str) -> None:
        super().tag(self._there(repo), name, commit)

    def untag(self, repo: str, name: str) -> None:
        super().untag(self._there(repo), name)

    def branch(self, repo: str, name: str, commit: str) -> None:
        super().branch(self._there(repo), name, commit)

    def delete_all(self, orgs: Iterable[str]) -> None:
        """Delete what this run made."""
        for org in orgs:
            for repo in list(self.repos(org)):
                self._admin.delete_repo(self._there(repo), missing_ok=True)

    def _asking(self, repo: str, *, writing: bool = False) -> AbstractContextManager[None]:
        # Errors name the adapter as the test knows it.
        return super()._asking(self._here.get(repo, repo), writing=writing)

    def _there(self, repo: str) -> str:
        there = f"{self._prefix}-{repo.replace('/', '-')}"
        self._here[there] = repo
        return there
