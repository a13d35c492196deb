"""Signatures and the trust policy, the same in every store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from support.adapters import LEGAL, SUPPORT, make_base
from support.desk import Desk

from hotshoe.adapter.errors import RegistryUnavailable, Untrusted
from hotshoe.adapter.manifest import MANIFEST_PATH
from hotshoe.adapter.version import Version
from hotshoe.registry import Registry, open_registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.local import LocalStore
from hotshoe.registry.mirror import mirror
from hotshoe.registry.policy import Rule, TrustPolicy
from hotshoe.registry.publishing import draft_version
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.signing import SigningKey
from hotshoe.registry.store import Store
from hotshoe.registry.trust import Trust
from hotshoe.registry.values import Publication
from hotshoe.registry.verification import SIGNATURE_PATH

ACME, GLOBEX = SigningKey.generate(), SigningKey.generate()
POLICY = TrustPolicy((Rule(("acme/*",), (ACME.public,)), Rule(("globex/*",), unsigned=True)))


def open_with_policy(store: Store, root: Path) -> Registry:
    knowledge = Knowledge(store, Recollection(root / "knowledge", store.url), fresh_seconds=0)
    return Registry(store, knowledge, Cache(root / "adapters"), Trust(POLICY, store, root / "signatures"))


@pytest.fixture
def trusting(open_store: Callable[[], Store], tmp_path: Path) -> Registry:
    """A registry on the same place that asks for signatures."""
    return open_with_policy(open_store(), tmp_path / "trusting")


def signed(desk: Desk, key: SigningKey, seed: int = 1) -> Version:
    return desk.registry.publish(desk.adapter(seed), SUPPORT, base=desk.base, sign_with=key)


def test_a_signed_version_is_fetched_and_promoted(desk: Desk, trusting: Registry) -> None:
    version = signed(desk, ACME)
    with trusting.fetched(version) as folder:
        assert (folder / "adapter_model.safetensors").is_file()
    assert trusting.promote(SUPPORT, "prod", version.number).version == version


@pytest.mark.parametrize("key", [None, GLOBEX])
def test_an_unsigned_or_wrongly_signed_version_is_neither_fetched_nor_promoted(
    desk: Desk, trusting: Registry, key: SigningKey | None
) -> None:
    version = desk.publish(1) if key is None else signed(desk, key)
    with pytest.raises(Untrusted):
        trusting.fetch(version)
    with pytest.raises(Untrusted):
        trusting.promote(SUPPORT, "prod", version.number)
    desk.registry.fetch(version)


def test_an_alias_is_not_rolled_back_to_what_the_policy_takes_no_more(desk: Desk, trusting: Registry) -> None:
    desk.registry.promote(SUPPORT, "prod", desk.publish(1).number)
    now = trusting.promote(SUPPORT, "prod", signed(desk, ACME, seed=2).number)
    with pytest.raises(Untrusted):
        trusting.rollback(SUPPORT, "prod")
    assert trusting.show(SUPPORT).aliases["prod"].etag == now.etag


def test_what_the_policy_leaves_alone_needs_no_signature(desk: Desk, trusting: Registry) -> None:
    trusting.fetch(desk.publish(1, LEGAL))


def test_publishing_what_nobody_would_take_is_refused_at_once(desk: Desk, trusting: Registry) -> None:
    with pytest.raises(Untrusted, match="not signed"):
        trusting.publish(desk.adapter(1), SUPPORT, base=desk.base)
    with pytest.raises(Untrusted, match=GLOBEX.public.key_id):
        trusting.publish(desk.adapter(1), SUPPORT, base=desk.base, sign_with=GLOBEX)
    assert trusting.publish(desk.adapter(1), SUPPORT, base=desk.base, sign_with=ACME).number == 1


def test_signing_what_was_published_unsigned_makes_a_version(desk: Desk, trusting: Registry) -> None:
    unsigned, version = desk.publish(1), signed(desk, ACME)
    assert (version.number, version.manifest_sha256) == (2, unsigned.manifest_sha256)
    assert signed(desk, ACME) == version
    assert desk.publish(1) == unsigned
    trusting.fetch(version)
    with pytest.raises(Untrusted):
        trusting.fetch(unsigned)


def test_a_signature_taken_from_another_version_is_refused(
    desk: Desk, trusting: Registry, store: Store, tmp_path: Path
) -> None:
    good = signed(desk, ACME, seed=1)
    stolen = store.read(SUPPORT, good.commit, SIGNATURE_PATH)
    with store.staging() as staging:
        draft = draft_version(desk.adapter(2), SUPPORT, make_base(tmp_path / "base"), staging)
        publication = Publication("mallory", "", datetime.now(UTC), draft.manifest.sha256)
        commit = store.add_version(
            SUPPORT, {**draft.files, SIGNATURE_PATH: stolen}, publication, newest=1, number=2
        )
    with pytest.raises(Untrusted, match="changed after it was signed"):
        trusting.fetch(Version(SUPPORT, 2, commit, draft.manifest.sha256))


def test_a_signature_follows_its_version_into_a_mirror(desk: Desk, tmp_path: Path) -> None:
    version = signed(desk, ACME)
    with open_with_policy(LocalStore(tmp_path / "mirror"), tmp_path / "cache-mirror") as copy:
        (copied,) = mirror(desk.registry, copy).versions
        assert copied.manifest_sha256 == version.manifest_sha256
        copy.fetch(copied)


@pytest.mark.parametrize("key", [None, GLOBEX])
def test_a_mirror_takes_nothing_that_its_own_policy_refuses(
    desk: Desk, tmp_path: Path, key: SigningKey | None
) -> None:
    signed(desk, ACME, seed=1)
    refused = desk.publish(2) if key is None else signed(desk, key, seed=2)
    desk.registry.promote(SUPPORT, "prod", refused.number)
    with open_with_policy(LocalStore(tmp_path / "mirror"), tmp_path / "cache-mirror") as copy:
        with pytest.raises(Untrusted):
            mirror(desk.registry, copy)
        assert list(copy.store.refs(SUPPORT).versions) == [1]


def test_a_mirror_points_no_alias_to_what_its_policy_refuses_by_now(desk: Desk, tmp_path: Path) -> None:
    version, place = desk.publish(1), tmp_path / "mirror"
    with open_registry(place, cache=tmp_path / "cache-mirror") as copy:
        mirror(desk.registry, copy)
    desk.registry.promote(SUPPORT, "prod", version.number)
    with open_with_policy(LocalStore(place), tmp_path / "cache-mirror") as copy:
        with pytest.raises(Untrusted):
            mirror(desk.registry, copy)
        assert copy.store.moves(SUPPORT, "prod") == []


def test_a_signed_version_lists_the_same_files_as_an_unsigned_one(desk: Desk, store: Store) -> None:
    version = signed(desk, ACME)
    tree = set(store.tree(SUPPORT, version.commit))
    assert {MANIFEST_PATH, SIGNATURE_PATH} <= tree
    assert SIGNATURE_PATH not in {entry.path for entry in desk.registry.manifest(version).files}


class Silent:
    """A store that does not answer."""

    def tree(self, adapter: object, commit: str) -> Mapping[str, int]:
        raise RegistryUnavailable(f"nobody answers for {adapter} at {commit}")


def test_what_was_found_good_is_taken_while_the_store_does_not_answer(
    desk: Desk, store: Store, tmp_path: Path
) -> None:
    version, keep = signed(desk, ACME), tmp_path / "signatures"
    manifest = desk.registry.manifest(version)
    silent = cast(Store, Silent())
    with pytest.raises(RegistryUnavailable):
        Trust(POLICY, silent, keep).check(version, manifest)
    assert Trust(POLICY, store, keep).check(version, manifest) == ACME.public
    assert Trust(POLICY, silent, keep).check(version, manifest) == ACME.public
    (kept,) = keep.iterdir()
    kept.write_bytes(GLOBEX.sign(manifest.canonical()).encode())
    with pytest.raises(Untrusted):
        Trust(POLICY, silent, keep).check(version, manifest)
