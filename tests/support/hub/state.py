"""What a Hub remembers: repos of commits, branches and tags, and who may touch them. No HTTP here."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class HubRefusal(Exception):
    """An answer other than success, in the words of the real Hub."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class User:
    """Who a token belongs to: the organizations it reads in, and whether it may write there."""

    name: str
    orgs: frozenset[str]
    may_write: bool = True


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's bytes; `lfs` files are addressed by sha256, the others by git's blob id."""

    data: bytes
    lfs: bool = False

    @property
    def git_oid(self) -> str:
        content = _pointer(self.data) if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of a tree: path -> blob."""

    sha: str
    parent: str | None
    tree: Mapping[str, Blob]
    title: str
    message: str
    author: str
    date: datetime


@dataclass(frozen=True, slots=True)
class Put:
    """Write a file; with `lfs_oid` its bytes were uploaded before."""

    path: str
    data: bytes = b""
    lfs_oid: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a file, or with a trailing slash a folder."""

    path: str


@dataclass(slots=True)
class Repo:
    """One model repo. `lfs` holds uploaded objects by sha256, committed or not."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit:
        """The commit of a branch, a tag or a commit id; 404 RevisionNotFound for anything else."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise HubRefusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def log(self, revision: str) -> list[Commit]:
        """From the newest commit to the first."""
        commits: list[Commit] = []
        sha: str | None = self.resolve(revision).sha
        while sha is not None:
            commits.append(self.commits[sha])
            sha = self.commits[sha].parent
        return commits

    def commit(
        self,
        branch: str,
        changes: Iterable[Put | Delete],
        *,
        title: str,
        message: str = "",
        author: str = "system",
        expected: str | None = None,
    ) -> Commit:
        """Move a branch on by one commit; 412 if it is not at `expected` any more."""
        head = self.branches.get(branch)
        if head is None and self.commits:
            raise HubRefusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        if expected is not None and head != expected:
            raise HubRefusal(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(self.commits[head].tree) if head else {}
        for change in changes:
            self._apply(tree, change)
        commit = Commit(
            secrets.token_hex(20),
            head,
            tree,
            title,
            message,
            author,
            _EPOCH + timedelta(seconds=len(self.commits)),
        )
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit

    def _apply(self, tree: dict[str, Blob], change: Put | Delete) -> None:
        if isinstance(change, Put):
            if change.lfs_oid is None:
                tree[change.path] = Blob(change.data)
            elif change.lfs_oid in self.lfs:
                tree[change.path] = Blob(self.lfs[change.lfs_oid], lfs=True)
            else:
                raise HubRefusal(400, f"LFS object {change.lfs_oid} was never uploaded")
            return
        folder = change.path.endswith("/")
        gone = [path for path in tree if (path.startswith(change.path) if folder else path == change.path)]
        if not gone:
            raise HubRefusal(404, "A file with this name doesn't exist", "EntryNotFound")
        for path in gone:
            del tree[path]


def new_repo(name: str, *, private: bool = False) -> Repo:
    """A repo as the Hub makes it: `main` with one commit that holds `.gitattributes`."""
    repo = Repo(name, private=private)
    repo.commit("main", [Put(".gitattributes", b"*.safetensors filter=lfs\n")], title="initial commit")
    return repo


def _pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
