"""What still works when the store does not answer, and what happens when only the answer is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from support.adapters import LEGAL, SUPPORT, ref
from support.desk import Desk
from support.outage import FailingStore

from hotshoe.adapter.errors import RegistryUnavailable
from hotshoe.registry import Registry

OpenRemote = Callable[[], Registry]


def test_what_was_resolved_before_an_outage_is_resolved_during_it(
    desk: Desk, line: FailingStore, open_remote: OpenRemote, caplog: pytest.LogCaptureFixture
) -> None:
    version = desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    remote = open_remote()
    assert remote.resolve(ref("acme/support@prod")) == version
    line.down = True
    with caplog.at_level(logging.WARNING):
        assert remote.resolve(ref("acme/support@prod")) == version
    assert "does not answer; acme/support is taken as it was at" in caplog.text
    assert (remote.age_seconds(SUPPORT) or 0) > 0


def test_a_process_that_starts_during_an_outage_knows_what_another_knew(
    desk: Desk, line: FailingStore, open_remote: OpenRemote
) -> None:
    version = desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    before = open_remote()
    folder = before.fetch(before.resolve(ref("acme/support@prod")))
    assert before.resolve(ref("acme/support@v1")) == version
    line.down = True
    after = open_remote()
    assert after.resolve(ref("acme/support@prod")) == version
    assert after.resolve(ref("acme/support@v1")) == version
    assert after.fetch(version) == folder
    assert after.manifest(version).sha256 == version.manifest_sha256


def test_what_was_never_known_is_unavailable_during_an_outage(
    desk: Desk, line: FailingStore, open_remote: OpenRemote
) -> None:
    desk.publish(1, LEGAL)
    line.down = True
    with pytest.raises(RegistryUnavailable, match="the line is down"):
        open_remote().resolve(ref("globex/legal@v1"))


def test_after_an_outage_the_news_are_known(desk: Desk, line: FailingStore, open_remote: OpenRemote) -> None:
    for seed in (1, 2):
        desk.publish(seed)
    desk.registry.promote(SUPPORT, "prod", 1)
    remote = open_remote()
    remote.resolve(ref("acme/support@prod"))
    line.down = True
    desk.registry.promote(SUPPORT, "prod", 2)
    assert remote.resolve(ref("acme/support@prod")).number == 1
    line.down = False
    assert remote.resolve(ref("acme/support@prod")).number == 2


def test_who_asks_for_what_is_true_now_is_never_told_what_was(
    desk: Desk, line: FailingStore, open_remote: OpenRemote
) -> None:
    for seed in (1, 2):
        desk.publish(seed)
    desk.registry.promote(SUPPORT, "prod", 1)
    remote, prod = open_remote(), ref("acme/support@prod")
    remote.resolve(prod)
    desk.registry.promote(SUPPORT, "prod", 2)
    line.refs_lost = 2
    assert remote.resolve(prod).number == 1
    with pytest.raises(RegistryUnavailable):
        remote.targets(prod, fresh=True)
    assert [target.version.number for target in remote.targets(prod, fresh=True)] == [2]


def test_a_broken_memory_on_disk_is_as_good_as_none(
    desk: Desk, line: FailingStore, open_remote: OpenRemote, tmp_path: Path
) -> None:
    desk.publish(1)
    open_remote().resolve(ref("acme/support@v1"))
    (kept,) = (tmp_path / "knowledge").rglob("support.json")
    kept.write_text('{"versions": {"one": 1}')
    line.down = True
    with pytest.raises(RegistryUnavailable):
        open_remote().resolve(ref("acme/support@v1"))


def test_a_promotion_whose_answer_was_lost_has_happened_once(
    desk: Desk, line: FailingStore, open_remote: OpenRemote
) -> None:
    desk.publish(1)
    line.answers_lost = 1
    move = open_remote().promote(SUPPORT, "prod", 1, reason="heard or not")
    assert desk.registry.history(SUPPORT, "prod") == [move]


def test_a_publish_whose_answer_was_lost_is_the_same_version_when_sent_again(
    desk: Desk, line: FailingStore, open_remote: OpenRemote
) -> None:
    remote = open_remote()
    line.answers_lost = 1
    with pytest.raises(RegistryUnavailable):
        remote.publish(desk.adapter(1), SUPPORT, base=desk.base)
    assert remote.publish(desk.adapter(1), SUPPORT, base=desk.base).number == 1
    assert len(desk.registry.show(SUPPORT).versions) == 1


def test_resolving_a_known_alias_again_asks_only_for_the_refs(
    desk: Desk, line: FailingStore, open_remote: OpenRemote
) -> None:
    desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    remote = open_remote()
    remote.resolve(ref("acme/support@prod"))
    line.requests.clear()
    remote.resolve(ref("acme/support@prod"))
    assert line.requests == ["refs"]
