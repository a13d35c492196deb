"""One registry's adapters into another: versions with their numbers, aliases with their whole history.

What is there already stays as it is, so a mirror that was cut short is finished by running it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hotshoe.adapter.errors import AdapterNotFound, Refused
from hotshoe.adapter.manifest import MANIFEST_PATH
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.publishing import Draft
from hotshoe.registry.registry import Registry
from hotshoe.registry.store import Refs, Staged, Store
from hotshoe.registry.values import Move, Target, VersionState
from hotshoe.registry.verification import UNLISTED


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What was copied: versions and moves of aliases that the target did not have."""

    versions: tuple[Version, ...]
    moves: tuple[Move, ...]


def mirror(source: Registry, target: Registry, adapters: Collection[AdapterName] | None = None) -> Mirrored:
    """Copy adapters (None: all) from `source` to `target`, verified on the way.

    Raises Refused for an adapter that went another way in the target (a number there has other content,
    or an alias other moves), and Untrusted for a version that the target's trust policy does not take.
    """
    names = [summary.adapter for summary in source.adapters()] if adapters is None else adapters
    versions: list[Version] = []
    moves: list[Move] = []
    for name in names:
        # Read before the versions are listed: what is published and promoted meanwhile is for the next time,
        # and no alias points to a version that was not copied.
        logs = _logs(source.store, name)
        versions += _copy_versions(source, target, name)
        for alias, log in logs.items():
            moves += _copy_moves(target, name, alias, log)
    return Mirrored(tuple(versions), tuple(moves))


def _logs(store: Store, name: AdapterName) -> dict[str, list[Move]]:
    return {alias: store.moves(name, alias) for alias in sorted(store.refs(name).aliases)}


def _copy_versions(source: Registry, target: Registry, name: AdapterName) -> list[Version]:
    copied = []
    there = _refs(target.store, name)
    for state in source.show(name).versions:
        number = state.version.number
        if number in there.versions:
            _check_same(target, there, state)
        elif number < there.newest:
            continue  # Retired in the target, which may keep less.
        else:
            commit = _copy_version(source, target, state, there.newest)
            copied.append(replace(state.version, commit=commit))
            there = target.store.refs(name)
    return copied


def _check_same(target: Registry, there: Refs, state: VersionState) -> None:
    told = target.store.publications(there.adapter).get(there.versions[state.version.number])
    if told is None or told.manifest_sha256 != state.version.manifest_sha256:
        raise Refused(
            f"{state.version} has other content in {target.url}: mirror into an empty registry, or under "
            "another name"
        )


def _copy_version(source: Registry, target: Registry, state: VersionState, newest: int) -> str:
    version, manifest = state.version, state.manifest
    with source.fetched(version) as folder, target.store.staging() as staging:
        files: dict[str, Staged | bytes] = {MANIFEST_PATH: manifest.canonical()}
        for entry in manifest.files:
            files[entry.path] = Staged(
                _copied(folder / entry.path, staging / entry.path), entry.size, entry.sha256
            )
        # What vouches for the manifest, such as signatures, lies beside it and is not listed in it.
        for path in source.store.tree(version.adapter, version.commit):
            if path not in files and path.startswith(".hotshoe/") and path in UNLISTED:
                files[path] = source.store.read(version.adapter, version.commit, path)
        target.check_draft(version.adapter, Draft(manifest, files))
        return target.store.add_version(
            version.adapter, files, state.publication, newest=newest, number=version.number
        )


def _copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def _copy_moves(target: Registry, name: AdapterName, alias: str, log: Sequence[Move]) -> list[Move]:
    there, done = _refs(target.store, name), target.store.moves(name, alias)
    if [move.promotion_id for move in done] != [move.promotion_id for move in log[: len(done)]]:
        raise Refused(
            f"{name}@{alias} was moved in {target.url} by others too, and no history is rewritten: mirror "
            "the adapter into another registry, or move the alias there by hand from now on"
        )
    copied = []
    # Without a move there may be an etag: of an alias that somebody, this mirror perhaps, died while making.
    etag = done[-1].etag if done else there.aliases.get(alias)
    for move in log[len(done) :]:
        to, before = _targets_in(there, move.to), _targets_in(there, move.before)
        for each in to:
            if each.version.number in there.versions:
                target.check_trust(each.version)
        marker = replace(move.marker, previous=etag, to=to, before=before)
        # Where the alias went on from, the versions may have been let go, here or there.
        told = move is not log[-1]
        etag = target.store.move_alias(name, alias, marker, expected=etag, recorded=told)
        copied.append(Move(name, alias, etag, marker))
    return copied


def _targets_in(there: Refs, targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The same versions by the target's own commits; one that was retired keeps the name it had."""
    return tuple(
        replace(
            target,
            version=replace(
                target.version, commit=there.versions.get(target.version.number, target.version.commit)
            ),
        )
        for target in targets
    )


def _refs(store: Store, name: AdapterName) -> Refs:
    try:
        return store.refs(name)
    except AdapterNotFound:
        return Refs(name, {}, {})
