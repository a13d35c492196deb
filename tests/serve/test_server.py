"""The server, as anybody who speaks gRPC sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from support.adapters import SUPPORT
from support.calls import ask, calling, error_info, read_all
from support.serving import Served, echo_server

from hotshoe.v1 import inference_pb2 as pb

INFERENCE = "hotshoe.v1.Inference"


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with echo_server(tmp_path_factory.mktemp("served"), max_message_bytes=100_000) as server:
        yield server


# What it answers


async def test_the_base_answers_where_no_adapter_is_named(served: Served) -> None:
    async with calling(served.address) as stub:
        answer = await stub.Generate(pb.GenerateRequest(generation=ask()))
    assert [each.text for each in answer.answers] == ["base: hi"]
    assert answer.answers[0].finish_reason == pb.FINISH_REASON_STOP
    assert (answer.usage.prompt_tokens, answer.usage.output_tokens) == (2, 8)
    assert (answer.resolved.base.repo, answer.resolved.adapter) == ("tiny", "")


@pytest.mark.parametrize("name", ["acme/support", "acme/support@prod", "acme/support@v1"])
async def test_an_adapter_answers_and_says_which_version_it_was(served: Served, name: str) -> None:
    async with calling(served.address) as stub:
        answer = await stub.Generate(pb.GenerateRequest(generation=ask(adapter=name)))
    assert answer.answers[0].text.endswith(" acme/support: hi")
    assert (answer.resolved.adapter, answer.resolved.version) == ("acme/support", "v1")
    assert (len(answer.resolved.commit), len(answer.resolved.manifest_sha256)) == (40, 64)


async def test_a_stream_names_the_version_first_and_the_cost_last(served: Served) -> None:
    async with calling(served.address) as stub:
        call = stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask(adapter="acme/support")))
        events = [message async for message in call]
    kinds = [[field.name for field, _ in event.ListFields()] for event in events]
    assert kinds == [["resolved", "delta"], *[["delta"]] * (len(kinds) - 2), ["delta", "finished"]]
    assert events[0].resolved.version == "v1"
    text = "".join(event.delta.text for event in events)
    assert text.endswith(" acme/support: hi")
    assert sum(len(event.delta.token_ids) for event in events) == events[-1].finished.usage.output_tokens


async def test_base_and_adapters_at_once_answer_each_for_themselves(served: Served) -> None:
    voices = ["", "acme/support@v1", "acme/support@v2", "globex/legal"]

    async def one(number: int) -> bool:
        voice = voices[number % len(voices)]
        answer = await stub.Generate(pb.GenerateRequest(generation=ask(f"prompt {number}", voice)))
        expected = f"{voice.partition('@')[0] or 'base'}: prompt {number}"
        return answer.answers[0].text.endswith(expected)

    async with calling(served.address) as stub:
        assert all(await asyncio.gather(*(one(number) for number in range(64))))


async def test_several_answers_come_whole_or_as_pieces_by_their_index(served: Served) -> None:
    async with calling(served.address) as stub:
        whole = await stub.Generate(pb.GenerateRequest(generation=ask(n=3)))
        pieces = await read_all(stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask(n=3))))
    assert [each.text for each in whole.answers] == ["base: hi"] * 3
    assert whole.usage.output_tokens == 24
    texts = ["", "", ""]
    for each in pieces:
        texts[each.delta.index] += each.delta.text
    assert texts == ["base: hi"] * 3
    assert [each.finished.index for each in pieces if each.HasField("finished")] == [0, 1, 2]
    assert pieces[-1].finished.usage.output_tokens == 24


async def test_log_probabilities_come_with_the_tokens_they_belong_to(served: Served) -> None:
    async with calling(served.address) as stub:
        told = await stub.Generate(pb.GenerateRequest(generation=ask(logprobs=1)))
        not_told = await stub.Generate(pb.GenerateRequest(generation=ask()))
    answer = told.answers[0]
    assert [each.token_id for each in answer.logprobs] == list(answer.token_ids)
    assert [len(each.top) for each in answer.logprobs] == [1] * 8
    assert not not_told.answers[0].logprobs


async def test_an_answer_can_be_held_to_a_choice(served: Served) -> None:
    async with calling(served.address) as stub:
        generation = ask(choice=pb.Choice(options=["yes", "no"]))
        answer = await stub.Generate(pb.GenerateRequest(generation=generation))
    assert answer.answers[0].text == "yes"


async def test_tokens_are_counted_without_generating(served: Served) -> None:
    async with calling(served.address) as stub:
        answer = await stub.CountTokens(pb.CountTokensRequest(generation=ask("hello")))
        assert (answer.tokens, answer.context_tokens) == (5, 2048)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.CountTokens(pb.CountTokensRequest(generation=ask("x" * 5000)))
    assert error_info(raised.value).reason == "PROMPT_TOO_LONG"


async def test_adapters_are_listed_page_by_page(served: Served) -> None:
    async with calling(served.address) as stub:
        await stub.Generate(pb.GenerateRequest(generation=ask(adapter="acme/support@v2")))
        first = await stub.ListAdapters(pb.ListAdaptersRequest(page_size=1))
        request = pb.ListAdaptersRequest(page_size=1, page_token=first.next_page_token)
        second = await stub.ListAdapters(request)
        of_org = await stub.ListAdapters(pb.ListAdaptersRequest(org="globex"))
    (support,), (legal,) = first.adapters, second.adapters
    assert (support.name, support.latest, dict(support.aliases)) == ("acme/support", "v2", {"prod": "v1"})
    assert "v2" in support.resident
    assert (legal.name, second.next_page_token) == ("globex/legal", "")
    assert [each.name for each in of_org.adapters] == ["globex/legal"]


async def test_a_promotion_takes_effect_within_two_seconds_without_a_restart(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as served, calling(served.address) as stub:
        request = pb.GenerateRequest(generation=ask(adapter="acme/support@prod"))
        assert (await stub.Generate(request)).resolved.version == "v1"
        served.registry.promote(SUPPORT, "prod", 2)
        async with asyncio.timeout(2):
            while (await stub.Generate(request)).resolved.version != "v2":
                await asyncio.sleep(0.01)


async def test_a_stream_begun_before_a_promotion_finishes_on_the_old_version(tmp_path: Path) -> None:
    async with echo_server(tmp_path, token_seconds=0.05) as served, calling(served.address) as stub:
        generation = ask(adapter="acme/support@prod")
        events = aiter(stub.StreamGenerate(pb.StreamGenerateRequest(generation=generation)))
        old = [await anext(events), await anext(events)]
        served.registry.promote(SUPPORT, "prod", 2)
        async with asyncio.timeout(5):
            while (await stub.Generate(pb.GenerateRequest(generation=generation))).resolved.version != "v2":
                pass
        old += [message async for message in events]
    assert old[0].resolved.version == "v1"
    assert old[-1].HasField("finished")
    assert "".join(event.delta.text for event in old).endswith(" acme/support: hi")


# What it refuses


@pytest.mark.parametrize(
    ("generation", "code", "reason"),
    [
        (pb.Generation(), "INVALID_ARGUMENT", "EMPTY_PROMPT"),
        (ask(""), "INVALID_ARGUMENT", "EMPTY_PROMPT"),
        (pb.Generation(tokens=pb.Tokens()), "INVALID_ARGUMENT", "EMPTY_PROMPT"),
        (pb.Generation(chat=pb.Chat()), "INVALID_ARGUMENT", "EMPTY_PROMPT"),
        (
            pb.Generation(chat=pb.Chat(messages=[pb.Message(role="robot", content="x")])),
            "INVALID_ARGUMENT",
            "INVALID_REQUEST",
        ),
        (
            pb.Generation(chat=pb.Chat(messages=[pb.Message(role="tool", content="x")])),
            "INVALID_ARGUMENT",
            "INVALID_REQUEST",
        ),
        (pb.Generation(tokens=pb.Tokens(ids=[256])), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (ask("x" * 2048), "INVALID_ARGUMENT", "PROMPT_TOO_LONG"),
        (ask(temperature=-1), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (ask(temperature=float("nan")), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (ask(max_tokens=0), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (ask(stop=[""]), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (ask(adapter="no adapter"), "INVALID_ARGUMENT", "INVALID_REFERENCE"),
        (ask(adapter="acme/support@"), "INVALID_ARGUMENT", "INVALID_REFERENCE"),
        (ask(adapter="acme/nobody"), "NOT_FOUND", "ADAPTER_NOT_FOUND"),
        (ask(adapter="acme/support@v9"), "NOT_FOUND", "VERSION_NOT_FOUND"),
        (ask(adapter="acme/support@canary"), "NOT_FOUND", "ALIAS_NOT_FOUND"),
    ],
)
async def test_a_bad_request_is_refused_with_a_code_and_a_reason(
    served: Served, generation: pb.Generation, code: str, reason: str
) -> None:
    async with calling(served.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await stub.Generate(pb.GenerateRequest(generation=generation))
        with pytest.raises(grpc.aio.AioRpcError) as streamed:
            await stub.StreamGenerate(pb.StreamGenerateRequest(generation=generation)).read()
    for raised in (unary.value, streamed.value):
        assert raised.code().name == code
        assert (error_info(raised).reason, error_info(raised).domain) == (reason, "hotshoe.dev")
        assert raised.details()


async def test_a_refusal_names_what_there_is_instead(served: Served) -> None:
    async with calling(served.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="it has: prod") as raised:
            await stub.Generate(pb.GenerateRequest(generation=ask(adapter="acme/support@canary")))
    assert dict(error_info(raised.value).metadata) == {"adapter": "acme/support", "alias": "canary"}


@pytest.mark.parametrize("size", [-1, 1001])
async def test_a_page_of_no_sensible_size_is_refused(served: Served, size: int) -> None:
    async with calling(served.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="page_size") as raised:
            await stub.ListAdapters(pb.ListAdaptersRequest(page_size=size))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_over_the_limit_is_refused_and_the_next_one_answered(served: Served) -> None:
    async with calling(served.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Generate(pb.GenerateRequest(generation=ask("x" * 200_000)))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.Generate(pb.GenerateRequest(generation=ask()))).usage.output_tokens == 8
