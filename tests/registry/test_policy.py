from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hotshoe.adapter.errors import InvalidConfig, Untrusted
from hotshoe.adapter.manifest import Base, FileEntry, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.policy import Rule, TrustPolicy
from hotshoe.registry.signing import SigningKey

ACME, GLOBEX = SigningKey.generate(), SigningKey.generate()
SUPPORT = AdapterName("acme", "support")
MANIFEST = Manifest(
    adapter="acme/support",
    base=Base("tiny", "", "0" * 64),
    rank=4,
    alpha=8.0,
    targets=("q_proj",),
    files=(FileEntry("adapter_model.safetensors", 10, "1" * 64),),
)


def written(tmp_path: Path, text: str) -> TrustPolicy:
    (tmp_path / "trust.toml").write_text(text)
    return TrustPolicy.load(tmp_path / "trust.toml")


@pytest.fixture
def policy(tmp_path: Path) -> TrustPolicy:
    return written(
        tmp_path,
        f'[[rule]]\nadapters = ["acme/*"]\nkeys = ["{ACME.public}"]\n'
        '[[rule]]\nadapters = ["sandbox/*"]\nunsigned = true\n',
    )


def test_the_right_key_is_taken_and_named(policy: TrustPolicy) -> None:
    signature = ACME.sign(MANIFEST.canonical()).encode()
    assert policy.check(SUPPORT, MANIFEST, signature) == ACME.public


def test_an_unsigned_version_is_refused_where_a_signature_is_wanted(policy: TrustPolicy) -> None:
    with pytest.raises(Untrusted, match="not signed"):
        policy.check(SUPPORT, MANIFEST, None)


def test_somebody_elses_valid_signature_is_refused_by_key_id(policy: TrustPolicy) -> None:
    with pytest.raises(Untrusted, match=GLOBEX.public.key_id):
        policy.check(SUPPORT, MANIFEST, GLOBEX.sign(MANIFEST.canonical()).encode())


def test_a_changed_manifest_is_refused(policy: TrustPolicy) -> None:
    signature = ACME.sign(MANIFEST.canonical()).encode()
    with pytest.raises(Untrusted, match="changed after it was signed"):
        policy.check(SUPPORT, replace(MANIFEST, rank=8), signature)


def test_a_signed_version_cannot_pass_as_another_adapter(policy: TrustPolicy) -> None:
    other = AdapterName("acme", "legal")
    with pytest.raises(Untrusted, match="its manifest is of acme/support"):
        policy.check(other, MANIFEST, ACME.sign(MANIFEST.canonical()).encode())


def test_the_name_asked_for_decides_not_the_one_that_the_manifest_claims(policy: TrustPolicy) -> None:
    with pytest.raises(Untrusted):
        policy.check(SUPPORT, replace(MANIFEST, adapter="sandbox/x"), None)


def test_a_rule_without_signatures_takes_them_as_they_come(policy: TrustPolicy) -> None:
    name = AdapterName("sandbox", "x")
    assert policy.check(name, replace(MANIFEST, adapter="sandbox/x"), b"rubbish") is None


def test_what_no_rule_covers_is_refused_unless_the_default_accepts(
    policy: TrustPolicy, tmp_path: Path
) -> None:
    name, manifest = AdapterName("initech", "x"), replace(MANIFEST, adapter="initech/x")
    with pytest.raises(Untrusted, match="no rule"):
        policy.check(name, manifest, ACME.sign(manifest.canonical()).encode())
    assert written(tmp_path, 'default = "accept"').check(name, manifest, None) is None
    assert TrustPolicy.open().check(name, manifest, None) is None


def test_the_first_rule_that_covers_decides() -> None:
    policy = TrustPolicy((Rule(("acme/support",), (GLOBEX.public,)), Rule(("acme/*",), unsigned=True)))
    assert policy.wants_signature(SUPPORT)
    assert not policy.wants_signature(AdapterName("acme", "legal"))


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("acme/*", "acme/support", True),
        ("acme/*", "acme2/support", False),
        ("acme/*", "ACME/support", False),
        ("*/*", "acme/support", True),
        ("a*/s*t", "acme/support", True),
        ("acme/support", "acme/support2", False),
        ("acme/s.pport", "acme/support", False),
    ],
)
def test_patterns_match_whole_names_part_by_part(pattern: str, name: str, covered: bool) -> None:
    assert Rule((pattern,), unsigned=True).covers(AdapterName.parse(name)) is covered


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default = 1", "refuse"),
        ("defalt = 'accept'", "did you mean default"),
        ("rule = 1", r"\[\[rule\]\]"),
        ("[[rule]]\nkeys = []", "names no adapters"),
        ("[[rule]]\nadapters = 'acme/*'\nunsigned = true", "no list of text"),
        ("[[rule]]\nadapters = ['acme']\nunsigned = true", "no pattern"),
        ("[[rule]]\nadapters = ['acme/*']", "either keys or unsigned"),
        ("[[rule]]\nadapters = ['acme/*']\nkeys = ['x']", "no public key"),
        ("[[rule]]\nadapters = ['acme/*']\nunsigned = 'yes'", "true or false"),
        ("[[rule]]\nadapters = ['acme/*']\nkey = ['x']", "did you mean keys"),
        ("[[rule", "no valid TOML"),
    ],
)
def test_a_policy_that_makes_no_sense_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        written(tmp_path, text)


def test_a_policy_that_is_too_long_is_refused_and_not_read_in_part(tmp_path: Path) -> None:
    rule = '[[rule]]\nadapters = ["acme/*"]\nunsigned = true\n'
    with pytest.raises(InvalidConfig, match="over 1048576 bytes"):
        written(tmp_path, 'default = "accept"\n' + rule * (2**20 // len(rule) + 1))


def test_a_policy_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        TrustPolicy.load(tmp_path / "absent.toml")
