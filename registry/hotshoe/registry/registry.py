"""The registry: what a `Reader` tells, and publish, promote, split, roll back, unset.

It works the same over every `Store`. What belongs to both stands here and in the modules it leads to:
content that is there already is the same version, lost races are run again, and a promotion that is sent
twice happens once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.aliases import checked_weights, previous_targets
from hotshoe.registry.base import BaseModel
from hotshoe.registry.gates import check_gates
from hotshoe.registry.promotion import Intent, move_alias, user
from hotshoe.registry.reading import Reader
from hotshoe.registry.store import Refs
from hotshoe.registry.values import Move, Publication, Target
from hotshoe.registry.words import NAME_CHARACTERS, TEXT_CHARACTERS, check_words

if TYPE_CHECKING:
    from hotshoe.registry.publishing import Draft
    from hotshoe.registry.signing import SigningKey


class Registry(Reader):
    """Adapters, their versions and aliases, in one store."""

    def publish(
        self,
        folder: Path,
        name: AdapterName,
        *,
        base: BaseModel | None = None,
        actor: str = "",
        message: str = "",
        tags: Collection[str] = (),
        sign_with: SigningKey | None = None,
    ) -> Version:
        """Make a PEFT folder the next version; the same content again is the version that it was.

        tags: words to be found by, beside those that the trainer gave it; they are part of the content.
        sign_with: puts a signature beside the manifest. Raises InvalidRequest for a tag that is none, for
        words that cannot be kept and where nothing names the base, BaseMismatch, Unservable for what
        inspection finds, Untrusted where the trust policy wants another signature, RegistryUnavailable.
        Whatever it raises, no half version is left; send it again.
        """
        check_words(actor=(actor, NAME_CHARACTERS), message=(message, TEXT_CHARACTERS))
        # Imported here: who only reads should not wait for all that inspects.
        from hotshoe.registry.publishing import add_version, draft_version

        with self.store.staging() as staging:
            draft = draft_version(folder, name, base, staging, tags)
            if sign_with is not None:
                draft = draft.signed(sign_with)
            self.check_draft(name, draft)
            publication = Publication(actor or user(), message, datetime.now(UTC), draft.manifest.sha256)
            version = add_version(self.store, name, draft, publication)
        self._known.forget(name)
        return version

    def check_draft(self, name: AdapterName, draft: Draft) -> None:
        """Raise Untrusted for what the trust policy would not take once it is published."""
        if self._trust is not None:
            self._trust.check_draft(name, draft)

    def promote(
        self,
        name: AdapterName,
        alias: str,
        number: int,
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
        force: bool = False,
    ) -> Move:
        """Point an alias to a version, compare-and-set.

        expected: the etag that the alias must have (UNSET: it must point nowhere); None: whatever it has.
        promotion_id: the same id sent again changes nothing and returns the move that it made; Conflict
        where that was a move to somewhere else.
        force: even if the version's own gates failed; the reason in the history says so.
        Raises Conflict, which names the etag and target there are, VersionNotFound, GateFailed, Untrusted,
        InvalidRequest for words that cannot be kept.
        """
        return self.split(
            name,
            alias,
            {number: 1},
            expected=expected,
            actor=actor,
            reason=reason,
            promotion_id=promotion_id,
            force=force,
        )

    def split(
        self,
        name: AdapterName,
        alias: str,
        weights: Mapping[int, int],
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
        force: bool = False,
    ) -> Move:
        """Point an alias to several versions by weight, `{8: 10, 7: 90}`; otherwise as `promote`."""
        shares = checked_weights(weights)

        def targets(refs: Refs) -> tuple[Target, ...]:
            chosen = [Target(self._known.version(refs, number), weight) for number, weight in shares.items()]
            for target in chosen:
                self.check_trust(target.version)
                if not force:
                    check_gates(target.version, self.manifest(target.version))
            return tuple(chosen)

        why = f"forced: {reason}" if force else reason
        intent = Intent("promote", expected, actor, why, promotion_id, shares)
        return move_alias(self.store, self._known, name, alias, intent, targets)

    def rollback(
        self,
        name: AdapterName,
        alias: str,
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
    ) -> Move:
        """Point an alias to where it pointed before; again, one further back. Otherwise as `promote`.

        Raises AliasNotFound, Refused where there is nothing left to go back to, and Untrusted where the trust
        policy does not take (any more) what it pointed to: promote a version that it takes.
        """

        def targets(refs: Refs) -> tuple[Target, ...]:
            if self._known.head(refs, alias) is None:
                self._known.pointing(refs, alias)
            log = self._known.moves(name, alias, refs.aliases[alias])
            previous = previous_targets(log, frozenset(refs.versions))
            for target in previous:
                self.check_trust(target.version)
            return previous

        intent = Intent("rollback", expected, actor, reason, promotion_id)
        return move_alias(self.store, self._known, name, alias, intent, targets)

    def unset(
        self,
        name: AdapterName,
        alias: str,
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
    ) -> Move:
        """Make an alias point nowhere; its history stays. Otherwise as `promote`."""

        def targets(refs: Refs) -> tuple[Target, ...]:
            self._known.pointing(refs, alias)
            return ()

        intent = Intent("unset", expected, actor, reason, promotion_id)
        return move_alias(self.store, self._known, name, alias, intent, targets)
