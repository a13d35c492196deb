"""What the Hub does wrong, and what comes of it: nothing lost, nothing twice, nothing half."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk
from support.hub import http
from support.hub.server import HubServer

from hotshoe.adapter.errors import (
    AdapterNotFound,
    Conflict,
    HotshoeError,
    PermissionDenied,
    Refused,
    RegistryUnavailable,
    Tampered,
    Unauthenticated,
)
from hotshoe.registry.hub_store import HubStore

COMMIT, TAG = "/commit/", "/tag/"


def asked(hub: HubServer, method: str, part: str) -> int:
    return sum(request.method == method and part in request.path for request in hub.requests)


# Answers that get lost.


@pytest.mark.parametrize("step", ["/api/repos/create", "/preupload/", "/lfs/objects/batch", COMMIT, TAG])
def test_a_publication_whose_answer_is_lost_happens_once(hub: HubServer, desk: Desk, step: str) -> None:
    hub.bend("POST", step, http.lost)
    assert desk.publish(1).number == 1
    assert desk.publish(2).number == 2
    assert len(hub.repos["acme/support"].log("main")) == 3


def test_an_upload_that_breaks_off_is_done_again(hub: HubServer, desk: Desk) -> None:
    hub.hang_before("PUT", "/lfs/")
    assert desk.publish(1).number == 1


@pytest.mark.parametrize("step", ["/branch/", COMMIT])
def test_a_promotion_whose_answer_is_lost_happens_once(hub: HubServer, desk: Desk, step: str) -> None:
    desk.publish(1)
    hub.bend("POST", step, http.lost)
    move = desk.registry.promote(SUPPORT, "prod", 1)
    assert desk.registry.history(SUPPORT, "prod") == [move]


def test_a_promotion_whose_answer_is_lost_and_that_is_overtaken_is_not_repeated(
    hub: HubServer, open_desk: Callable[[], Desk]
) -> None:
    mine, other = open_desk(), open_desk()
    for seed in (1, 2):
        mine.publish(seed)
    other.registry.promote(SUPPORT, "prod", 2)
    # The commit happens, its answer is lost, and before it is sent again somebody promotes on top of it.
    hub.bend("POST", COMMIT, http.lost)
    hub.interleave("POST", COMMIT, lambda: other.registry.promote(SUPPORT, "prod", 2, reason="overtake"))
    move = mine.registry.promote(SUPPORT, "prod", 1, reason="mine")
    assert move.reason == "mine"
    assert [each.reason for each in mine.registry.history(SUPPORT, "prod")] == ["", "mine", "overtake"]


def test_a_version_that_is_promoted_while_it_is_let_go_stays(
    hub: HubServer, open_desk: Callable[[], Desk]
) -> None:
    mine, other = open_desk(), open_desk()
    for seed in (1, 2):
        mine.publish(seed)
    hub.interleave("DELETE", "/tag/", lambda: other.registry.promote(SUPPORT, "prod", 1))
    with pytest.raises(Refused, match="prod points to"):
        mine.registry.store.retire(SUPPORT, 1)
    assert other.registry.resolve(ref("acme/support@v1")) == other.registry.resolve(ref("acme/support@prod"))


def test_a_number_that_somebody_gave_to_another_commit_meanwhile_is_not_taken_for_ours(
    hub: HubServer, desk: Desk
) -> None:
    first = desk.publish(1)
    hub.interleave("POST", TAG, lambda: hub.repos["acme/support"].tags.update(v2=first.commit))
    version = desk.publish(2)
    assert desk.registry.resolve(ref(str(version))) == version
    assert version.number == 3


# Refusals for a while.


def test_a_commit_waits_for_another_commit_to_end(hub: HubServer, desk: Desk) -> None:
    desk.publish(1)
    hub.fail("POST", COMMIT, 409)
    desk.registry.promote(SUPPORT, "prod", 1)
    assert len(desk.registry.history(SUPPORT)) == 1


def test_a_rate_limit_is_waited_out_as_long_as_the_hub_asks(hub: HubServer, desk: Desk) -> None:
    desk.publish(1)
    hub.fail("GET", "/refs", 429, headers={"Retry-After": "1"})
    assert desk.registry.resolve(ref("acme/support@v1")).number == 1


def test_a_lost_race_is_not_sent_again(
    hub: HubServer, open_store: Callable[..., HubStore], desk: Desk
) -> None:
    desk.publish(1)
    move = desk.registry.promote(SUPPORT, "prod", 1)
    before = asked(hub, "POST", COMMIT)
    hub.fail("POST", COMMIT, 412)
    another = replace(move.marker, promotion_id="another")
    with pytest.raises(Conflict, match=move.etag):
        open_store().move_alias(SUPPORT, "prod", another, expected=move.etag)
    assert asked(hub, "POST", COMMIT) == before + 1


# Deaths between two steps.


def test_a_commit_that_got_no_tag_is_tagged_by_the_next_publisher(
    hub: HubServer, open_desk: Callable[[], Desk]
) -> None:
    mine, other = open_desk(), open_desk()
    mine.publish(1)
    hub.fail("POST", TAG, 403)
    with pytest.raises(PermissionDenied):
        mine.publish(2)
    assert list(mine.registry.show(SUPPORT).versions)[-1].version.number == 1
    assert other.publish(3).number == 3
    assert other.registry.resolve(ref("acme/support@v2")) == mine.publish(2)


def test_a_publication_that_died_before_its_tag_is_completed_by_its_retry(hub: HubServer, desk: Desk) -> None:
    hub.fail("POST", TAG, 403)
    with pytest.raises(PermissionDenied):
        desk.publish(1)
    with pytest.raises(AdapterNotFound):
        desk.registry.show(SUPPORT)
    assert desk.publish(1).number == 1
    assert len(hub.repos["acme/support"].log("main")) == 2


def test_an_alias_that_died_before_its_marker_points_nowhere_until_it_is_set(
    hub: HubServer, desk: Desk
) -> None:
    desk.publish(1)
    hub.fail("POST", "/preupload/", 403)
    with pytest.raises(PermissionDenied):
        desk.registry.promote(SUPPORT, "prod", 1)
    assert desk.registry.show(SUPPORT).aliases == {}
    desk.registry.promote(SUPPORT, "prod", 1, expected="")
    assert [move.version for move in desk.registry.history(SUPPORT, "prod")] == [
        desk.registry.resolve(ref("acme/support@v1"))
    ]


# Bytes that are not what they should be.


def test_weights_that_were_changed_on_their_way_are_never_handed_out(hub: HubServer, desk: Desk) -> None:
    version = desk.publish(1)
    hub.bend("GET", "/cdn/", http.flipped)
    with pytest.raises(Tampered, match="adapter_model"):
        desk.registry.fetch(version)
    assert desk.registry.fetch(version).is_dir()


def test_a_config_that_was_changed_on_its_way_is_never_handed_out(hub: HubServer, desk: Desk) -> None:
    version = desk.publish(1)
    hub.bend("GET", "/resolve/.*/adapter_config.json", http.flipped)
    with pytest.raises(Tampered, match="adapter_config"):
        desk.registry.fetch(version)


def test_a_manifest_that_was_changed_on_its_way_is_read_again(hub: HubServer, desk: Desk) -> None:
    desk.publish(1)
    hub.bend("GET", "/resolve/.*/manifest.json", http.flipped)
    with pytest.raises(Tampered, match="ask again"):
        desk.registry.resolve(ref("acme/support@v1"))
    assert desk.registry.resolve(ref("acme/support@v1")).number == 1


def test_a_download_that_breaks_off_goes_on(hub: HubServer, desk: Desk) -> None:
    version = desk.publish(1)
    hub.bend("GET", "/cdn/", http.cut)
    assert (desk.registry.fetch(version) / "adapter_model.safetensors").is_file()


def test_a_download_that_is_too_short_is_refused(hub: HubServer, desk: Desk) -> None:
    version = desk.publish(1)
    hub.bend("GET", "/cdn/", http.shortened)
    with pytest.raises(RegistryUnavailable, match="try again"):
        desk.registry.fetch(version)


# Who may do what.


def test_a_wrong_token_is_told_how_to_sign_in(hub: HubServer, open_desk: Callable[..., Desk]) -> None:
    with pytest.raises(Unauthenticated, match="hf auth login"):
        open_desk("hf_wrong").publish(1)


def test_a_token_that_may_only_read_cannot_publish_or_promote(open_desk: Callable[..., Desk]) -> None:
    open_desk().publish(1)
    reader = open_desk("hf_reader")
    assert reader.registry.resolve(ref("acme/support@v1")).number == 1
    with pytest.raises(PermissionDenied, match="settings"):
        reader.publish(2)
    with pytest.raises(PermissionDenied, match="settings"):
        reader.registry.promote(SUPPORT, "prod", 1)


def test_a_private_repo_is_not_there_for_a_stranger_who_is_told_why(open_desk: Callable[..., Desk]) -> None:
    open_desk().publish(1)
    with pytest.raises(AdapterNotFound, match="private and the token does not reach it"):
        open_desk("hf_stranger").registry.resolve(ref("acme/support@v1"))


def test_without_a_token_one_is_asked_for(
    hub: HubServer, open_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    open_desk().publish(1)
    nobody = open_desk(None)
    with pytest.raises(AdapterNotFound, match="HF_TOKEN"):
        nobody.registry.resolve(ref("acme/support@v1"))
    hub.repos["acme/support"].private = False
    assert nobody.registry.resolve(ref("acme/support@v1")).number == 1
    with pytest.raises(Unauthenticated, match="may write"):
        nobody.publish(2)


def test_a_gated_repo_is_told_where_to_ask_for_access(hub: HubServer, open_desk: Callable[..., Desk]) -> None:
    open_desk().publish(1)
    hub.repos["acme/support"].private = False
    hub.repos["acme/support"].gated = True
    with pytest.raises(PermissionDenied, match=r"ask for access at http.*acme/support"):
        open_desk("hf_stranger").registry.resolve(ref("acme/support@v1"))


def test_no_token_is_in_an_error_or_a_log(
    hub: HubServer, open_desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"X-Error-Message": "no such token: Bearer hf_reader", "X-Error-Code": "Odd"}
    hub.fail("GET", "/refs", 403, headers=echo)
    with pytest.raises(HotshoeError) as caught:
        open_desk("hf_reader").registry.show(SUPPORT)
    assert "hf_reader" not in f"{caught.value} {caught.value!r} {caught.value.details}"
    open_desk().publish(1)
    assert hub.token not in caplog.text


def test_a_hub_that_is_not_there_is_told_with_what_to_look_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RegistryUnavailable, match="HF_HUB_OFFLINE"):
        desk.registry.show(SUPPORT)
