"""What the shelf hands to the engine, of whatever the registry holds."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from support import tiny
from support.adapters import SUPPORT, make_adapter
from support.broken import DEEP, PLAIN
from support.calls import ask, calling, error_info, read_all
from support.serving import open_shop
from support.smuggled import smuggle

from hotshoe.adapter.errors import BaseMismatch, Tampered, Unservable
from hotshoe.adapter.manifest import Base
from hotshoe.registry import open_registry
from hotshoe.registry.signing import SigningKey
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.engine import EngineAdapter, EngineFacts
from hotshoe.serve.planning import read_base_config
from hotshoe.serve.server import running
from hotshoe.serve.shelf import Shelf
from hotshoe.v1 import inference_pb2 as pb

BASE = Base("tiny", "", "0" * 64)
FAULTS = {name: fault for name, fault in (PLAIN | DEEP).items() if name != "no folder"}


def facts(base: Path, number_bytes: int = 4) -> EngineFacts:
    """Of an engine on the tiny base."""
    config = read_base_config(base)
    return EngineFacts(BASE, 512, tiny.VOCABULARY, 4, 16, base_config=config, number_bytes=number_bytes)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_came_past_the_inspection_of_publish_does_not_get_past_this_one(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path, fault: str
) -> None:
    folder = Path(shutil.copytree(tiny_adapter("sound", 400), tmp_path / "broken"))
    FAULTS[fault](folder)
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(registry, folder, SUPPORT, BASE, tiny.ALL_LINEAR)
        # What is no file of a version is not even fetched.
        with pytest.raises((Unservable, Tampered)):
            Shelf(registry, facts(tiny_base)).take(version)


def test_a_version_weighs_its_numbers_in_the_engines_precision(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    rank = 8
    numbers = sum(rank * sum(tiny.shapes(each)) for each in tiny.ALL_LINEAR) * tiny.LAYERS
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(registry, tiny_adapter("sound", 401), SUPPORT, BASE, tiny.ALL_LINEAR)
        for number_bytes in (2, 4):
            shelf = Shelf(registry, facts(tiny_base, number_bytes=number_bytes))
            assert shelf.take(version).size == numbers * number_bytes
            shelf.give_back(version)


def test_a_version_for_another_base_is_refused_and_both_are_named(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    other = Base("other", "", "1" * 64)
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(registry, tiny_adapter("sound", 402), SUPPORT, other, tiny.ALL_LINEAR)
        with pytest.raises(BaseMismatch, match=r"other.*tiny"):
            Shelf(registry, facts(tiny_base)).take(version)


def _trained_with(template: str) -> dict[str, str]:
    return {"chat_template_sha256": hashlib.sha256(template.encode()).hexdigest()}


@pytest.mark.parametrize("training", [{}, _trained_with("{{ ours }}"), {"chat_template_sha256": 3}])
def test_a_version_of_the_servers_own_chat_template_or_of_none_is_taken_without_a_word(
    tiny_base: Path,
    tiny_adapter: Callable[..., Path],
    tmp_path: Path,
    training: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = replace(facts(tiny_base), template_sha256=_trained_with("{{ ours }}")["chat_template_sha256"])
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(
            registry, tiny_adapter("sound", 403), SUPPORT, BASE, tiny.ALL_LINEAR, training=training
        )
        Shelf(registry, ours, same_template=True).take(version)
    assert not caplog.messages


def test_a_version_of_another_chat_template_is_told_in_the_log_or_refused_if_the_operator_wants_that(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = replace(facts(tiny_base), template_sha256=_trained_with("{{ ours }}")["chat_template_sha256"])
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(
            registry,
            tiny_adapter("sound", 404),
            SUPPORT,
            BASE,
            tiny.ALL_LINEAR,
            training=_trained_with("{{ theirs }}"),
        )
        Shelf(registry, ours).take(version)
        assert any(
            "acme/support@v1 was trained with another chat template" in each for each in caplog.messages
        )
        with pytest.raises(Unservable, match=r"another chat template .* without --same-template"):
            Shelf(registry, ours, same_template=True).take(version)


async def test_a_version_without_the_signature_that_the_policy_asks_for_is_refused_and_never_in_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = SigningKey.generate(), SigningKey.generate()
    policy = tmp_path / "trust.toml"
    policy.write_text(f'[[rule]]\nadapters = ["*/*"]\nkeys = ["{ours.public}"]\n')
    with open_shop(tmp_path) as shop:
        for seed, key in ((11, ours), (12, theirs)):  # v1 and v2, which are there already, nobody signed.
            shop.registry.publish(
                make_adapter(tmp_path / f"signed-{seed}", seed), SUPPORT, base=shop.base, sign_with=key
            )
        engine = Listening(shop.base.base, slots=4, max_rank=16)
        monkeypatch.setenv("HOTSHOE_TRUST", str(policy))
        config = ServeConfig(base="echo", listen="127.0.0.1:0", slots=4, resident=4)
        with open_registry(tmp_path / "registry", cache=tmp_path / "strict") as registry:
            async with running(config, engine, registry) as server, calling(server.address) as stub:
                for asked in ("acme/support", "acme/support@v2", "acme/support@v4"):
                    generation = ask(adapter=asked)
                    for call in (
                        stub.Generate(pb.GenerateRequest(generation=generation)),
                        read_all(stub.StreamGenerate(pb.StreamGenerateRequest(generation=generation))),
                    ):
                        with pytest.raises(grpc.aio.AioRpcError) as raised:
                            await call
                        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
                        assert error_info(raised.value).reason == "UNTRUSTED"
                assert engine.added == []
                await stub.Generate(pb.GenerateRequest(generation=ask(adapter="acme/support@v3")))
                assert len(engine.added) == 1
        await engine.close()


class Listening(EchoEngine):
    """added: the names of what it was given, taken or not."""

    added: list[str]

    def __init__(self, base: Base, *, slots: int, max_rank: int) -> None:
        super().__init__(base, slots=slots, max_rank=max_rank)
        self.added = []

    async def add(self, adapter: EngineAdapter) -> None:
        self.added.append(adapter.name)
        await super().add(adapter)
