"""Whose signature is wanted for which adapter: a small TOML file.

    default = "refuse"              # adapters that no rule names: "refuse" or "accept"; refuse if left out

    [[rule]]
    adapters = ["acme/*", "globex/support"]
    keys = ["ed25519:mP0…"]         # any one of these must have signed

    [[rule]]
    adapters = ["sandbox/*"]
    unsigned = true                 # taken as they come

The first rule that matches decides. `*` stands for any characters of one part of the name.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidConfig, Untrusted
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.signing import PublicKey, Signature

_PATTERN = re.compile(r"[A-Za-z0-9._*-]+/[A-Za-z0-9._*-]+")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Rule:
    """Adapters by pattern, and the keys of which one must have signed them; `unsigned` asks for none."""

    adapters: tuple[str, ...]
    keys: tuple[PublicKey, ...] = ()
    unsigned: bool = False

    def covers(self, adapter: AdapterName) -> bool:
        return any(_matches(pattern, str(adapter)) for pattern in self.adapters)


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Rules in order, the first that covers an adapter decides; `accept` is for those that none covers."""

    rules: tuple[Rule, ...] = ()
    accept: bool = False

    @classmethod
    def open(cls) -> TrustPolicy:
        """The policy where none was set: everything is taken as it comes."""
        return cls(accept=True)

    @classmethod
    def load(cls, path: Path) -> TrustPolicy:
        """Read the file; raise InvalidConfig that names the key or rule that is wrong."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise InvalidConfig(f"the trust policy {path} is over {_MAX_BYTES} bytes: use fewer rules")
            raw = tomllib.loads(data.decode())
        except OSError as error:
            raise InvalidConfig(f"the trust policy {path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InvalidConfig(f"the trust policy {path} is no valid TOML: {error}") from error
        try:
            return _policy(raw)
        except InvalidConfig as error:
            raise InvalidConfig(f"the trust policy {path}: {error.message}") from error

    def wants_signature(self, adapter: AdapterName) -> bool:
        """Whether a version of `adapter` needs a signature to be taken."""
        rule = self._rule(adapter)
        return not self.accept if rule is None else not rule.unsigned

    def check(self, adapter: AdapterName, manifest: Manifest, signature: bytes | None) -> PublicKey | None:
        """Raise Untrusted unless the policy takes this version; return the key that vouches, if any does.

        adapter: the name it was asked for by. signature: the content of `.hotshoe/signature.json`, None
        where the version has none. Where no signature is wanted none is looked at.
        """
        if not self.wants_signature(adapter):
            return None
        rule = self._rule(adapter)
        if rule is None:
            raise _untrusted(
                adapter, "no rule of the trust policy covers it", "add a rule with the keys you trust"
            )
        if manifest.adapter != str(adapter):
            # Signed or not, it is somebody else's: a signature covers the name it was made for.
            raise _untrusted(
                adapter, f"its manifest is of {manifest.adapter}", "publish it under its own name"
            )
        if signature is None:
            raise _untrusted(
                adapter, "it is not signed", "publish it again with --key, one that the policy trusts"
            )
        signed = Signature.parse(signature)
        if signed.key not in rule.keys:
            trusted = ", ".join(key.key_id for key in rule.keys)
            raise _untrusted(
                adapter, f"key {signed.key.key_id} signed it", f"the policy trusts only {trusted} for it"
            )
        signed.verify(manifest.canonical())
        return signed.key

    def _rule(self, adapter: AdapterName) -> Rule | None:
        return next((rule for rule in self.rules if rule.covers(adapter)), None)


def _policy(raw: Mapping[str, Any]) -> TrustPolicy:
    _refuse_unknown(raw, {"default", "rule"}, "the file")
    default, rules = raw.get("default", "refuse"), raw.get("rule", [])
    if default not in ("refuse", "accept"):
        raise InvalidConfig(f'default is {default!r}: write "refuse" or "accept"')
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise InvalidConfig("rule is no list of tables: write [[rule]]")
    return TrustPolicy(
        tuple(_rule(number, rule) for number, rule in enumerate(rules, 1)), default == "accept"
    )


def _rule(number: int, raw: Mapping[str, Any]) -> Rule:
    what = f"rule {number}"
    _refuse_unknown(raw, {"adapters", "keys", "unsigned"}, what)
    adapters, keys = (
        _texts(raw.get("adapters"), f"{what}: adapters"),
        _texts(raw.get("keys", []), f"{what}: keys"),
    )
    unsigned = raw.get("unsigned", False)
    if not isinstance(unsigned, bool):
        raise InvalidConfig(f"{what}: unsigned is {unsigned!r}: write true or false")
    if not adapters:
        raise InvalidConfig(
            f'{what} names no adapters: write adapters = ["org/name"], where * stands for any'
        )
    for pattern in adapters:
        if not _PATTERN.fullmatch(pattern):
            raise InvalidConfig(f'{what}: {pattern!r} is no pattern: write "org/name", "org/*" or "*/*"')
    if unsigned == bool(keys):
        raise InvalidConfig(f"{what}: give either keys or unsigned = true")
    return Rule(adapters, tuple(PublicKey.parse(key) for key in keys), unsigned)


def _texts(value: object, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidConfig(f"{what} is no list of text")
    return tuple(value)


def _refuse_unknown(raw: Mapping[str, Any], known: set[str], what: str) -> None:
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it may have {', '.join(sorted(known))}"
            raise InvalidConfig(f"{what} has an unknown key {key!r}: {hint}")


def _matches(pattern: str, adapter: str) -> bool:
    parts = "[^/]*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(parts, adapter) is not None


def _untrusted(adapter: AdapterName, why: str, next_step: str) -> Untrusted:
    return Untrusted(f"{adapter} is not trusted: {why}; {next_step}", details={"adapter": str(adapter)})
