"""How much is asked of a Hub that counts: free accounts have about 1,000 requests in five minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk
from support.hub.server import HubServer
from typer.testing import CliRunner

from hotshoe.cli.main import app
from hotshoe.registry import Registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.hub_store import HubStore
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.policy import Rule, TrustPolicy
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.signing import SigningKey
from hotshoe.registry.trust import Trust

KEY = SigningKey.generate()
MOVES: dict[str, Callable[[Registry], object]] = {
    "promote": lambda registry: registry.promote(SUPPORT, "prod", 2),
    "promote with an id": lambda registry: registry.promote(SUPPORT, "prod", 2, promotion_id="deploy-1"),
    "first promotion": lambda registry: registry.promote(SUPPORT, "canary", 2, promotion_id="deploy-1"),
    "roll back": lambda registry: registry.rollback(SUPPORT, "prod"),
    "roll back with an id": lambda registry: registry.rollback(SUPPORT, "prod", promotion_id="deploy-1"),
    "unset": lambda registry: registry.unset(SUPPORT, "prod", promotion_id="deploy-1"),
}


def two_versions(desk: Desk, key: SigningKey | None = None) -> None:
    """v1 and v2, whose configs differ too, which is what costs most; prod was at v2, and is at v1."""
    changed = desk.adapter(2) / "adapter_config.json"
    changed.write_text(changed.read_text() + "\n")
    for seed in (1, 2):
        desk.registry.publish(desk.adapter(seed), SUPPORT, base=desk.base, sign_with=key)
    for number in (2, 1):
        desk.registry.promote(SUPPORT, "prod", number)


def test_resolving_takes_one_small_request_once_the_alias_is_known(hub: HubServer, desk: Desk) -> None:
    desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    desk.registry.resolve(ref("acme/support@prod"))
    before = hub.count()
    desk.registry.resolve(ref("acme/support@prod"))
    assert [request.path for request in hub.requests[before:]] == ["/api/models/acme/support/refs"]


@pytest.mark.parametrize("move", MOVES)
def test_a_move_takes_a_stranger_at_most_eleven_requests(
    hub: HubServer, open_desk: Callable[[], Desk], move: str
) -> None:
    two_versions(open_desk())
    stranger = open_desk()
    before = hub.count()
    MOVES[move](stranger.registry)
    assert hub.count() - before <= 11


@pytest.mark.parametrize("move", MOVES)
def test_the_signature_of_a_version_that_is_promoted_takes_one_more(
    hub: HubServer,
    open_desk: Callable[[], Desk],
    open_store: Callable[[], HubStore],
    tmp_path: Path,
    move: str,
) -> None:
    two_versions(open_desk(), KEY)
    store, root = open_store(), tmp_path / "trusting"
    known = Knowledge(store, Recollection(root / "known", store.url), fresh_seconds=0)
    trust = Trust(TrustPolicy((Rule(("acme/*",), (KEY.public,)),)), store, root / "signatures")
    trusting = Registry(store, known, Cache(root / "cache"), trust)
    before = hub.count()
    MOVES[move](trusting)
    assert hub.count() - before <= 12


@pytest.mark.parametrize(
    ("words", "requests"),
    [
        (("promote", "acme/support@v2", "prod", "--reason", "go", "--promotion-id", "deploy-1"), 11),
        (("promote", "acme/support@staging", "prod", "--reason", "go", "--promotion-id", "deploy-1"), 13),
        (("rollback", "acme/support@prod", "--promotion-id", "deploy-1"), 11),
    ],
)
def test_the_command_line_asks_for_no_more_but_to_look_a_version_up(
    hub: HubServer, desk: Desk, tmp_path: Path, words: tuple[str, ...], requests: int
) -> None:
    two_versions(desk)
    desk.registry.promote(SUPPORT, "staging", 2)
    environment = {
        "HOTSHOE_REGISTRY": f"hub://acme?endpoint={hub.url}",
        "HOTSHOE_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN": hub.token,
    }
    before = hub.count()
    done = CliRunner().invoke(app, words, env=environment)
    assert "v1 -> v2" in done.output
    assert hub.count() - before <= requests
