"""Fetch an adapter that was not made by Hotshoe from the Hub, for `importing` to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hotshoe.adapter.errors import NotFound, Unservable
from hotshoe.registry.hub import Hub
from hotshoe.registry.importing import LEGACY_FILES, MAX_LEGACY_BYTES, TOKENIZER_FILES
from hotshoe.registry.inspect import CONFIG_FILE, README_FILE, WEIGHTS_FILE


def repo_fetcher(scratch: Path) -> Callable[[str], Path]:
    """A `Fetch` that brings `org/repo[@revision]` into `scratch`: an adapter's own files, nothing else.

    It raises NotFound for a repo or revision that is not there, and what `Hub` raises.
    """

    def fetch(source: str) -> Path:
        repo, _, revision = source.partition("@")
        hub = Hub()
        heads = hub.heads(repo)
        named = {**heads.branches, **heads.tags}
        commit = named.get(revision or "main", revision)
        if not commit:
            raise NotFound(f"{repo} has no branch main: name a revision, {repo}@REVISION")
        tree = hub.tree(repo, commit)
        weights = [WEIGHTS_FILE] if WEIGHTS_FILE in tree else list(LEGACY_FILES)
        wanted = [n for n in (CONFIG_FILE, README_FILE, *TOKENIZER_FILES, *weights) if n in tree]
        for name in wanted:
            if (size := tree[name].size) > MAX_LEGACY_BYTES:
                raise Unservable(f"{name} of {source} has {size} bytes, over the limit of {MAX_LEGACY_BYTES}")
        folder = scratch / commit
        hub.download(repo, commit, wanted, folder)
        return folder

    return fetch
