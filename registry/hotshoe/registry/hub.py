"""The one door to huggingface_hub: what a store needs of the Hub, as values and errors of the house.

How requests are timed and repeated stands in `hub_http`, what refusals mean in `hub_errors`.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version as installed_version
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    constants,
    get_session,
    hf_hub_url,
    hf_raise_for_status,
    set_client_factory,
)
from huggingface_hub.hf_api import GitRefInfo, RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but not marked so
    build_hf_headers,
    disable_progress_bars,
)

from hotshoe.adapter.errors import Tampered, VersionNotFound
from hotshoe.adapter.manifest import MANIFEST_PATH, MAX_MANIFEST_BYTES
from hotshoe.registry.hub_errors import Asked, explained
from hotshoe.registry.hub_http import AGENT, HubClient, Limits
from hotshoe.registry.store import Staged

PUBLIC_ENDPOINT = "https://huggingface.co"

MAX_FILES = 10_000
"""Of a tree that is read."""

_LIMITS = Limits()
_REMEMBERED = 4096
_SHA1 = re.compile(r"[0-9a-f]{40}")

CommitOperation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete

_client_lock = threading.Lock()
_client_prepared = False


@dataclass(frozen=True, slots=True)
class Heads:
    """Tags and branches of a repo, by name, with the commits they name."""

    tags: Mapping[str, str]
    branches: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a tree: size in bytes, and git's id of its content."""

    size: int
    blob: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A commit as a log tells it: title is its first line, message the rest; at is aware UTC time."""

    commit: str
    author: str
    title: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """A commit to be made. copy: paths to take from the commit `source` of the same repo."""

    title: str
    message: str
    write: Mapping[str, Staged | bytes] = field(default_factory=dict)
    copy: Sequence[str] = ()
    source: str = ""
    delete: Sequence[str] = ()


class _Unverified(Exception):
    """A file that came without its id, from a mirror or a proxy: to be used now, not to be remembered."""

    def __init__(self, content: bytes) -> None:
        super().__init__("a file without its id")
        self.content = content


class Hub:
    """One Hub, as seen with one token. Thread-safe; every call may raise the errors that `Store` names.

    endpoint: None is HF_ENDPOINT or the public Hub. token: None is HF_TOKEN or what `hf auth login` kept;
    it is sent to the endpoint only, and never shown.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        if self.endpoint != PUBLIC_ENDPOINT:
            # Only the public Hub speaks Xet. huggingface_hub reads the switch from the environment when it
            # is imported, which has happened by now.
            constants.HF_HUB_DISABLE_XET = True
        _prepare_client()
        self._token = token
        self._version = installed_version("hotshoe")
        self._api = HfApi(self.endpoint, token, library_name=AGENT, library_version=self._version)
        # What a commit holds never changes, so what was read once is never asked for again.
        self.tree = functools.lru_cache(_REMEMBERED)(self._get_tree)
        self._read = functools.lru_cache(_REMEMBERED)(self._get_small_file)

    def read(self, repo: str, commit: str, path: str) -> bytes:
        """A small file; Tampered where it is larger than any of ours could be, or not what the Hub keeps."""
        try:
            return self._read(repo, commit, path)
        except _Unverified as read:
            return read.content

    def repos(self, org: str) -> Iterator[str]:
        """The repos of an organization that hold a manifest on `main`."""
        with self._asking(org):
            for info in self._api.list_models(author=org, full=True):
                if any(file.rfilename == MANIFEST_PATH for file in info.siblings or ()):
                    yield info.id

    def heads(self, repo: str) -> Heads:
        with self._asking(repo):
            refs = self._api.list_repo_refs(repo)
        return Heads(_named(refs.tags), _named(refs.branches))

    def log(self, repo: str, revision: str) -> list[LogEntry]:
        """From the newest commit to the first; VersionNotFound where there is no such revision."""
        with self._asking(repo):
            commits = self._api.list_repo_commits(repo, revision=revision)
        return [
            LogEntry(each.commit_id, ", ".join(each.authors), each.title, each.message, each.created_at)
            for each in commits
        ]

    def _get_tree(self, repo: str, commit: str) -> Mapping[str, Entry]:
        """Every file of a commit; VersionNotFound where there is no such commit, Tampered for too many."""
        _check_commit(repo, commit)
        with self._asking(repo):
            # It comes in pages, and no more of them are asked for than anybody's adapter has.
            tree = self._api.list_repo_tree(repo, recursive=True, revision=commit)
            found = list(itertools.islice(tree, MAX_FILES + 1))
        if len(found) > MAX_FILES:
            raise Tampered(f"{repo} holds over {MAX_FILES} files at {commit[:12]}: that is no adapter")
        return {file.path: Entry(file.size, file.blob_id) for file in found if isinstance(file, RepoFile)}

    def _get_small_file(self, repo: str, commit: str, path: str) -> bytes:
        """See `read`; _Unverified where nothing came along to compare it with. In one request."""
        _check_commit(repo, commit)
        url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=self._token, library_name=AGENT, library_version=self._version)
        content = bytearray()
        with self._asking(repo), get_session().stream("GET", url, headers=headers) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MAX_MANIFEST_BYTES:
                    raise Tampered(f"{path} of {repo} at {commit[:12]} is over {MAX_MANIFEST_BYTES} bytes")
        # What is remembered for ever has to be right.
        etag = response.headers.get("etag", "").removeprefix("W/").strip('"')
        if not _SHA1.fullmatch(etag):
            raise _Unverified(bytes(content))
        if etag != _git_blob(content):
            raise Tampered(f"{path} of {repo} at {commit[:12]} did not arrive as the Hub keeps it: ask again")
        return bytes(content)

    def download(self, repo: str, commit: str, paths: Iterable[str], folder: Path) -> None:
        """Write files of a commit under `folder`, as the Hub gives them: nobody has verified them yet."""
        _check_commit(repo, commit)
        for path in paths:
            with self._asking(repo):
                # Not from huggingface_hub's own cache: what is broken there would stay broken.
                self._api.hf_hub_download(repo, path, revision=commit, local_dir=folder, force_download=True)
        shutil.rmtree(folder / ".cache", ignore_errors=True)

    def create(self, repo: str, *, private: bool) -> None:
        """Make a repo; one that is there already stays as it is."""
        with self._asking(repo, writing=True):
            self._api.create_repo(repo, private=private, exist_ok=True)

    def commit(self, repo: str, branch: str, parent: str, draft: Draft) -> str:
        """Move a branch from `parent` on by one commit; Conflict if it is elsewhere by now.

        The draft must write something that was never written before: the client drops a commit that
        changes nothing, and then the parent is never compared.
        """
        operations: list[CommitOperation] = [
            *(CommitOperationDelete(path, is_folder=False) for path in draft.delete),
            *(CommitOperationCopy(path, path, src_revision=draft.source) for path in draft.copy),
            *(_addition(path, content) for path, content in draft.write.items()),
        ]
        with self._asking(repo, writing=True):
            made = self._api.create_commit(
                repo,
                operations,
                commit_message=draft.title,
                commit_description=draft.message,
                revision=branch,
                parent_commit=parent,
            )
        return made.oid

    def tag(self, repo: str, name: str, commit: str) -> None:
        """Conflict where the tag exists. (With exist_ok the client is silent about a tag elsewhere.)"""
        with self._asking(repo, writing=True):
            self._api.create_tag(repo, tag=name, revision=commit)

    def untag(self, repo: str, name: str) -> None:
        """VersionNotFound where there is no such tag."""
        with self._asking(repo, writing=True):
            self._api.delete_tag(repo, tag=name)

    def branch(self, repo: str, name: str, commit: str) -> None:
        """Conflict where the branch exists."""
        with self._asking(repo, writing=True):
            self._api.create_branch(repo, branch=name, revision=commit)

    def _asking(self, repo: str, *, writing: bool = False) -> AbstractContextManager[None]:
        return explained(Asked(repo, self.endpoint, writing))


def _named(refs: Iterable[GitRefInfo]) -> dict[str, str]:
    """Commits by name; what is neither is nobody's."""
    return {
        ref.name: ref.target_commit
        for ref in refs
        if isinstance(ref.name, str) and _SHA1.fullmatch(str(ref.target_commit))
    }


def _check_commit(repo: str, commit: str) -> None:
    """Bytes are never read from a branch or a tag, which may move under the reader."""
    if not _SHA1.fullmatch(commit):
        raise VersionNotFound(f"{repo} has nothing at {commit!r}: give a full commit id, 40 hex digits")


def _git_blob(content: bytes | bytearray) -> str:
    """Git's id of a file's content, which the Hub sends as the ETag of files that are not in LFS."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _addition(path: str, content: Staged | bytes) -> CommitOperationAdd:
    if isinstance(content, bytes):
        return CommitOperationAdd(path, content)
    addition = CommitOperationAdd(path, content.path)
    # Hashed when it was staged; the client need not read it once more.
    addition.upload_info.sha256 = bytes.fromhex(content.sha256)
    return addition


def _prepare_client() -> None:
    """Give huggingface_hub, which has one client a process, one that has time limits and patience."""
    global _client_prepared
    with _client_lock:
        if _client_prepared:
            return
        hooks = get_session().event_hooks
        set_client_factory(lambda: HubClient(_LIMITS, event_hooks=hooks, follow_redirects=True))
        if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
            # A server fetches at any time; a bar belongs to a person who waits for it, as for an upload.
            if sys.stderr.isatty():
                disable_progress_bars("huggingface_hub.http_get")
                disable_progress_bars("huggingface_hub.xet_get")
            else:
                disable_progress_bars()
        _client_prepared = True


@contextmanager
def unreported() -> Iterator[None]:
    """Keep libraries from telling their makers of their use, which they do through huggingface_hub.

    Holds for the whole process: not for blocks of several threads that overlap.
    """
    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before
