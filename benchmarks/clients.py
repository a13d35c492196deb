"""One greedy answer of a fixed length through each kind of server, as a stream of token counts."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from benchmarks import servers
from benchmarks.empty_grpc import MESSAGES, METHOD, REQUEST
from benchmarks.streams import Answer
from hotshoe.client import AsyncClient
from hotshoe.wire.values import Delta, Sampling, Tokens

Ask = Callable[[Sequence[int], int], Answer]
"""(prompt, tokens to answer) -> the answer."""

_ids = itertools.count(1)


def hotshoe(client: AsyncClient, adapter: str | None = None) -> Ask:
    """Through Hotshoe's own client."""

    async def ask(prompt: Sequence[int], tokens: int) -> Answer:
        sampling = Sampling(temperature=0, max_tokens=tokens, ignore_eos=True)
        stream = client.stream(Tokens(tuple(prompt)), adapter=adapter, sampling=sampling)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Delta):
                    yield len(event.token_ids)

    return ask


@contextlib.asynccontextmanager
async def http(target: str, model: str = "base") -> AsyncIterator[Ask]:
    """Through vLLM's OpenAI interface; a line of the stream is one token here, as it is by default."""
    import aiohttp

    # Connections stay open between the turns of this peer, as they do for the others.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=servers.KEEP_ALIVE_SECONDS / 2)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(prompt: Sequence[int], tokens: int) -> Answer:
            body = {
                "model": model,
                "prompt": list(prompt),
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "return_token_ids": True,
            }
            async with session.post(f"http://{target}/v1/completions", json=body) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    if line.startswith(b"data: {"):
                        yield len(json.loads(line[6:])["choices"][0].get("token_ids") or ())

        yield ask


@contextlib.asynccontextmanager
async def vllm_grpc(target: str) -> AsyncIterator[Ask]:
    """Through vLLM's own gRPC (`VllmEngine`)."""
    from smg_grpc_proto import vllm_engine_pb2 as pb
    from smg_grpc_proto import vllm_engine_pb2_grpc

    async with grpc.aio.insecure_channel(target) as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)

        async def ask(prompt: Sequence[int], tokens: int) -> Answer:
            request = pb.GenerateRequest(
                request_id=f"bench-{next(_ids)}",
                tokenized=pb.TokenizedInput(original_text="", input_ids=list(prompt)),
                sampling_params=pb.SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True),
                stream=True,
            )
            async for answer in stub.Generate(request):
                if answer.WhichOneof("response") == "chunk":
                    yield len(answer.chunk.token_ids)

        yield ask


@contextlib.asynccontextmanager
async def empty_grpc(target: str) -> AsyncIterator[Ask]:
    """Of a server without a model: its few messages, whatever it is asked, stand for all tokens."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)

        async def ask(prompt: Sequence[int], tokens: int) -> Answer:
            sizes = [tokens // MESSAGES] * (MESSAGES - 1)
            sizes.append(tokens - sum(sizes))
            async for _ in stub(REQUEST):
                yield sizes.pop()

        yield ask


def direct(llm: Any) -> Ask:
    """Through an AsyncLLM in this very process."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    async def ask(prompt: Sequence[int], tokens: int) -> Answer:
        params = SamplingParams(
            temperature=0, max_tokens=tokens, ignore_eos=True, output_kind=RequestOutputKind.DELTA
        )
        async for output in llm.generate(
            {"prompt_token_ids": list(prompt)}, params, request_id=f"bench-{next(_ids)}"
        ):
            yield len(output.outputs[0].token_ids)

    return ask
