"""The trust policy, applied to what one store holds: asked before a version is taken, given or promoted."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from hotshoe.adapter.errors import RegistryUnavailable
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.policy import TrustPolicy
from hotshoe.registry.publishing import Draft, read_signature
from hotshoe.registry.signing import PublicKey
from hotshoe.registry.store import Store
from hotshoe.registry.verification import SIGNATURE_PATH


class Trust:
    """Who must have signed what. Thread-safe.

    keep: a folder where signatures that were good are kept, for the hours in which the store cannot be
    asked. They are verified again each time, so that nobody gains by writing there.
    """

    def __init__(self, policy: TrustPolicy, store: Store, keep: Path) -> None:
        self._policy = policy
        self._store = store
        self._keep = keep
        self._vouched: dict[tuple[AdapterName, str, str], PublicKey] = {}

    def check_draft(self, adapter: AdapterName, draft: Draft) -> None:
        """Raise Untrusted for a draft that nobody who has this policy would take once it is published."""
        signature = draft.files.get(SIGNATURE_PATH)
        self._policy.check(adapter, draft.manifest, signature if isinstance(signature, bytes) else None)

    def check(self, version: Version, manifest: Manifest) -> PublicKey | None:
        """Raise Untrusted unless the policy takes the version; return the key that vouches, if any does.

        manifest: of that version, its digest checked. Raises RegistryUnavailable where the signature can
        neither be read nor was it before.
        """
        if not self._policy.wants_signature(version.adapter):
            return None
        known = (version.adapter, version.commit, manifest.sha256)
        if (key := self._vouched.get(known)) is not None:
            return key
        kept = self._keep / f"{manifest.sha256}-{version.commit}.json"
        try:
            signature = read_signature(self._store, version.adapter, version.commit)
        except RegistryUnavailable:
            try:
                signature = kept.read_bytes()
            except OSError:
                signature = None
            if signature is None:
                raise
        key = self._policy.check(version.adapter, manifest, signature)
        if key is not None and signature is not None:
            self._vouched[known] = key
            _write(kept, signature)
        return key


def _write(path: Path, data: bytes) -> None:
    # Comfort only: a full disk must not keep anybody from a version that was just found good.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{secrets.token_hex(4)}")
        draft.write_bytes(data)
        draft.replace(path)
