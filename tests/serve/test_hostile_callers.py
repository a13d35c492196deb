"""Whatever callers send and publish, on a server with the real engine: a code that says what is wrong,
an engine that lives, and other callers' tokens as they were."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.message import Message as ProtoMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engines import as_engine_adapter, tokens
from support.serving import echo_server

from hotshoe.adapter.errors import AdapterLoadFailed
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import BaseModel, open_registry
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.server import running
from hotshoe.serve.structures.limits import STUCK_SECONDS
from hotshoe.v1 import admin_pb2, inference_pb2_grpc
from hotshoe.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

SECONDS = 30.0
"""The longest that a hostile request may take, on a machine that tests keep busy."""

TYPED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
PROMPT = "Dear support, my invoice"


@dataclass(frozen=True)
class Place:
    """A server on the session's engine."""

    engine: VllmEngine
    channel: grpc.aio.Channel

    async def ask(self, generation: pb.Generation, seconds: float = SECONDS) -> grpc.StatusCode:
        """The code that a request ends with."""
        stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(self.channel)
        call = stub.Generate(pb.GenerateRequest(generation=generation), timeout=seconds)
        return await call.code()


@pytest.fixture(scope="module")
async def place(
    tiny_engine: VllmEngine,
    tiny_base: Path,
    tiny_adapter: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("hostile")
    config = ServeConfig(base="tiny", listen="127.0.0.1:0", slots=4, resident=8)
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        name = AdapterName("acme", "support")
        base = BaseModel(tiny_base, tiny_engine.facts.base)
        version = registry.publish(tiny_adapter("hostile", 300), name, base=base)
        registry.promote(name, "prod", version.number)
        async with (
            running(config, tiny_engine, registry) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            yield Place(tiny_engine, channel)


numbers = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 40)
reals = st.floats() | st.floats(-2, 2)
texts = st.text(max_size=40) | st.sampled_from(["", "\0", "\ud7ff", "a" * 3000, '{"a": 1}', "(", "[a-z]*"])
ids = st.integers(0, 2**32 - 1) | st.integers(0, 1023)


@st.composite
def samplings(draw: st.DrawFn) -> pb.Sampling:
    """A few fields of Sampling with anything in them that fits their type."""
    kinds: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(("temperature", "top_p", "min_p", "repetition_penalty"), reals),
        **dict.fromkeys(("presence_penalty", "frequency_penalty"), reals),
        **dict.fromkeys(("top_k", "max_tokens", "min_tokens", "n", "logprobs"), numbers),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "stop": st.lists(texts, max_size=20),
        "stop_token_ids": st.lists(ids, max_size=70),
        "ignore_eos": st.booleans(),
        "logit_bias": st.dictionaries(ids, reals, max_size=5),
        **dict.fromkeys(("json_schema", "regex", "grammar"), texts),
        "choice": st.builds(pb.Choice, options=st.lists(texts, max_size=3)),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=4, unique=True))
    # Sound ones beside the wild one, or hardly any request would get as far as the engine.
    return pb.Sampling(**{"max_tokens": 4, **{name: draw(kinds[name]) for name in chosen}})


prompts: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"text": PROMPT}),
    st.builds(lambda text: {"text": text}, texts),
    st.builds(lambda found: {"tokens": pb.Tokens(ids=found)}, st.lists(ids, max_size=600)),
    st.builds(
        lambda turns: {"chat": pb.Chat(messages=[pb.Message(role=r, content=c) for r, c in turns])},
        st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool", "?"]), texts), max_size=3),
    ),
    st.just({}),
)
generations = st.builds(
    lambda prompt, **fields: pb.Generation(**prompt, **fields),
    prompts,
    adapter=st.sampled_from(["", "acme/support", "acme/support@prod", "acme/nobody", "../../etc", "é/è"]),
    sampling=samplings(),
    session=texts,
    priority=numbers,
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(generation=generations)
async def test_any_request_ends_with_a_code_that_says_what_is_wrong(
    place: Place, generation: pb.Generation
) -> None:
    assert await place.ask(generation) in TYPED
    await place.engine.check()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=st.binary(max_size=300))
async def test_bytes_that_are_no_message_or_any_message_end_with_a_code(place: Place, message: bytes) -> None:
    generate: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = place.channel.unary_unary(
        "/hotshoe.v1.Inference/Generate"
    )
    call = generate(message, timeout=SECONDS)
    code = await call.code()
    assert code in TYPED
    await place.engine.check()


@pytest.fixture(scope="module")
async def echoing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[grpc.aio.Channel]:
    """To a server whose engine only echoes, for what no engine is asked for."""
    async with (
        echo_server(tmp_path_factory.mktemp("echoing")) as served,
        grpc.aio.insecure_channel(served.address) as channel,
    ):
        yield channel


names = texts | st.sampled_from(
    [
        "acme/support",
        "acme/support@prod",
        "acme/support@v1",
        "acme/support@v9",
        "acme/nobody",
        "../../etc",
        "é/è",
    ]
)
ASKED: dict[str, st.SearchStrategy[ProtoMessage]] = {
    "/hotshoe.v1.Inference/ListAdapters": st.builds(
        pb.ListAdaptersRequest, org=names, page_size=numbers, page_token=names
    ),
    "/hotshoe.v1.Inference/CountTokens": st.builds(pb.CountTokensRequest, generation=generations),
    "/hotshoe.v1.Admin/Status": st.just(admin_pb2.StatusRequest()),
    "/hotshoe.v1.Admin/ListResidency": st.just(admin_pb2.ListResidencyRequest()),
    "/hotshoe.v1.Admin/Warm": st.builds(admin_pb2.WarmRequest, adapter=names),
    "/hotshoe.v1.Admin/Pin": st.builds(admin_pb2.PinRequest, adapter=names),
    "/hotshoe.v1.Admin/Unpin": st.builds(admin_pb2.UnpinRequest, adapter=names),
    "/hotshoe.v1.Admin/Evict": st.builds(admin_pb2.EvictRequest, adapter=names),
    "/hotshoe.v1.Admin/Drain": st.builds(admin_pb2.DrainRequest, seconds=reals),
    "/hotshoe.v1.Admin/Resume": st.just(admin_pb2.ResumeRequest()),
}
"""What each method may be asked; not Watch, which asks for nothing and never ends."""


@pytest.mark.parametrize("method", ASKED)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_whatever_operators_and_lists_are_asked_for_ends_with_a_code_and_others_are_answered(
    echoing: grpc.aio.Channel, method: str, data: st.DataObject
) -> None:
    sound = ASKED[method].map(lambda message: message.SerializeToString())
    message = data.draw(sound | st.binary(max_size=100))
    # Asked for as a stream whether it is one or not: an answer is then a stream of one.
    stream: Any = echoing.unary_stream(method)
    call = stream(message, timeout=SECONDS)
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    assert await call.code() in TYPED

    resume: Any = echoing.unary_unary("/hotshoe.v1.Admin/Resume")
    await resume(b"", timeout=SECONDS)
    generate: Any = echoing.unary_unary("/hotshoe.v1.Inference/Generate")
    request = pb.GenerateRequest(generation=pb.Generation(text=PROMPT, adapter="acme/support"))
    answer = pb.GenerateResponse.FromString(await generate(request.SerializeToString(), timeout=SECONDS))
    assert answer.answers[0].text.endswith(PROMPT)


def nested(depth: int) -> str:
    return '{"type":"object","properties":{"a":' * depth + '{"type":"string"}' + "}}" * depth


HOSTILE = {
    "repetitions of repetitions": {"regex": "(a{1,1000}){1,1000}"},
    "stars behind stars": {"regex": "(a|b|ab)*" * 200},
    "parentheses without end": {"regex": "(" * 2000 + "a" + ")" * 2000},
    "a schema nested deeply": {"json_schema": nested(700)},
    "a text of a million characters": {"json_schema": '{"type":"string","minLength":1000000}'},
    "a list of a million": {"json_schema": '{"type":"array","items":{"type":"integer"},"minItems":1000000}'},
    "a schema that is itself": {"json_schema": '{"$ref":"#"}'},
    "references in a circle": {
        "json_schema": '{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}'
    },
    "thousands of choices": {"json_schema": json.dumps({"enum": [f"x{n}" for n in range(6000)]})},
    "a rule that begins with itself": {"grammar": 'root ::= root "a"'},
    "a rule that is itself": {"grammar": "root ::= root"},
    "a rule that nobody wrote": {"grammar": "root ::= nothing"},
    "rules that double": {
        "grammar": "\n".join(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(40)) + '\nr40 ::= "a"\nroot ::= r0'
    },
    "a rule of parentheses": {"grammar": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000},
    "a rule that ends at once": {"grammar": 'root ::= ""'},
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_structure_is_refused_or_kept_in_bounded_time_while_others_are_answered(
    place: Place, name: str
) -> None:
    before = await tokens(place.engine, PROMPT)
    structure = pb.Sampling(max_tokens=4, **HOSTILE[name])  # type: ignore[arg-type]
    # Its process gets what nobody else wants of the processor, so by the clock it may take long to be judged.
    longest = STUCK_SECONDS + SECONDS
    hostile = asyncio.ensure_future(place.ask(pb.Generation(text=PROMPT, sampling=structure), longest))
    async with asyncio.timeout(SECONDS):
        assert await tokens(place.engine, PROMPT) == before
    assert await hostile in TYPED
    assert await tokens(place.engine, PROMPT) == before


@pytest.mark.parametrize("seed", range(60))
async def test_an_adapter_with_anything_changed_is_refused_or_harms_nobody(
    tiny_engine: VllmEngine, tiny_adapter: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    """Past inspection, which would have refused most of them: the engine's own defence."""
    folder = Path(shutil.copytree(tiny_adapter("sound", 301), tmp_path / "mutant"))
    _mutate(folder, random.Random(seed))
    neighbour = as_engine_adapter(tiny_adapter("neighbour", 302))
    await tiny_engine.add(neighbour)
    before = [await tokens(tiny_engine, PROMPT, who) for who in (None, neighbour)]
    mutant = as_engine_adapter(folder)
    mixed: list[Any] = []
    try:
        await tiny_engine.add(mutant)
        everybody = (None, mutant, neighbour)
        mixed = await asyncio.gather(*(tokens(tiny_engine, PROMPT, who) for who in everybody))
        await tiny_engine.remove(mutant)
    except AdapterLoadFailed as error:
        assert "acme/mutant" in error.message  # noqa: PT017

    assert mixed == [] or [mixed[0], mixed[2]] == before
    assert [await tokens(tiny_engine, PROMPT, who) for who in (None, neighbour)] == before
    await tiny_engine.remove(neighbour)


VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    1,
    7,
    16,
    10**9,
    1e30,
    float("nan"),
    "8",
    "",
    [],
    ["q_proj"],
    {},
    {"q_proj": 3},
    True,
)


def _mutate(folder: Path, chance: random.Random) -> None:
    """Change some of the configuration, of the header, or of the weights."""
    path = folder / "adapter_config.json"
    if chance.random() < 0.5:
        config = json.loads(path.read_text())
        for _ in range(chance.randint(1, 3)):
            config[chance.choice([*config, "rank_pattern", "alpha_pattern", "layers_to_transform"])] = (
                chance.choice(VALUES)
            )
        path.write_text(json.dumps(config))
        return
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    end = chance.choice((8, 400, len(data)))
    for _ in range(chance.randint(1, 40)):
        data[chance.randrange(end)] = chance.randrange(256)
    path.write_bytes(data[: chance.choice((len(data), len(data), chance.randrange(len(data))))])
