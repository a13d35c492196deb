"""An `Engine` without a model: it answers with who was asked and what for. For tests and dry runs.

`base: Hello` is the base's answer to `Hello`, `1f2e3d4c org/name: Hello` an adapter's, where the number
is a digest of its weights. A token is a byte of UTF-8. It loads, refuses, streams, stops and dies as the
real engine does, and passes the same contract suite.
"""

from __future__ import annotations

import asyncio
import codecs
import dataclasses
import hashlib
import itertools
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from hotshoe.adapter.errors import AdapterLoadFailed, EngineUnavailable, InvalidRequest, PromptTooLong
from hotshoe.adapter.manifest import Base
from hotshoe.serve.engine import EngineAdapter, EngineChunk, EngineFacts
from hotshoe.wire.structure import Choice, Structure
from hotshoe.wire.values import Chat, FinishReason, Sampling, TokenLogprob

VOCABULARY = 256
_LORA_SUFFIXES = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")


class EchoEngine:
    """The `Engine` protocol; see there for what each method promises.

    token_seconds: how long a token takes. running: ids of the requests under way.
    """

    def __init__(
        self,
        base: Base,
        *,
        slots: int = 8,
        max_rank: int = 64,
        context_tokens: int = 2048,
        token_seconds: float = 0.0,
        longest_token: int = 0,
    ) -> None:
        self.running: set[str] = set()
        self._facts = EngineFacts(
            base, context_tokens, VOCABULARY, slots, max_rank, longest_token=longest_token
        )
        self._token_seconds = token_seconds
        self._voices: dict[int, str] = {}
        self._used_ids: set[int] = set()
        self._gone = ""

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        if any(message.role == "tool" for message in chat.messages):
            raise InvalidRequest("the echo engine's chat template refuses this chat: it knows no tools")
        return tuple("\n".join(message.content for message in chat.messages).encode())

    async def add(self, adapter: EngineAdapter) -> None:
        self._ensure_alive()
        if adapter.id in self._voices:
            return
        if adapter.id in self._used_ids:
            raise AdapterLoadFailed(
                f"engine id {adapter.id} was used before: give {adapter.name} a fresh one"
            )
        self._used_ids.add(adapter.id)
        try:
            fingerprint = await asyncio.to_thread(_load, adapter.folder, self._facts.max_rank)
        except (OSError, ValueError, SafetensorError) as error:
            raise AdapterLoadFailed(
                f"the engine refuses {adapter.name}: {error}", details={"adapter": adapter.name}
            ) from error
        self._voices[adapter.id] = f"{fingerprint} {adapter.name.partition('@')[0]}"

    async def remove(self, adapter: EngineAdapter) -> None:
        self._ensure_alive()
        self._voices.pop(adapter.id, None)

    async def generate(
        self,
        request_id: str,
        prompt: tuple[int, ...],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        *,
        tenant: str = "",
    ) -> AsyncGenerator[EngineChunk, None]:
        self._ensure_alive()
        self._check_prompt(prompt)
        if adapter is not None and adapter.id not in self._voices:
            raise AdapterLoadFailed(f"{adapter.name} is not in the engine: add it before generating")
        voice = self._voices[adapter.id] if adapter else "base"
        answer = _structured(voice.encode() + b": " + bytes(prompt), sampling.structure)
        self.running.add(request_id)
        try:
            pieces = zip(*(_pieces(answer, sampling) for _ in range(sampling.n)), strict=True)
            for beside in pieces:
                await asyncio.sleep(self._token_seconds)
                self._ensure_alive(begun=True)
                for index, (token_ids, text, reason) in enumerate(beside):
                    logprobs = _certain(token_ids, sampling.logprobs)
                    yield EngineChunk(text, token_ids, reason, len(prompt), 0, index, logprobs)
        finally:
            self.running.discard(request_id)

    async def check(self) -> None:
        self._ensure_alive()

    async def close(self) -> None:
        self._gone = self._gone or "the engine is closed: start a new one"

    def die(self) -> None:
        """Fail as an engine does whose process is killed."""
        self._gone = "the engine died: try again later"

    def _ensure_alive(self, *, begun: bool = False) -> None:
        if self._gone:
            raise EngineUnavailable(self._gone, begun=begun)

    def _check_prompt(self, prompt: tuple[int, ...]) -> None:
        context = self._facts.context_tokens
        if len(prompt) >= context:
            raise PromptTooLong(
                f"the prompt has {len(prompt)} tokens, and the context holds {context} with the answer: "
                "shorten it"
            )
        if not prompt or min(prompt) < 0 or max(prompt) >= VOCABULARY:
            raise InvalidRequest(f"the prompt is empty or has a token outside of 0 to {VOCABULARY - 1}")


def _pieces(answer: bytes, sampling: Sampling) -> Iterator[tuple[tuple[int, ...], str, FinishReason | None]]:
    """Cut an answer into (tokens, text, finish reason), the reason on the last; a stop string is not text."""
    limit = sampling.max_tokens or len(answer)
    shortest = len(answer) if not sampling.ignore_eos else limit
    total = min(limit, max(shortest, sampling.min_tokens or 0))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    # Text that may be the beginning of a stop string is held back.
    hold = max((len(stop) for stop in sampling.stop), default=1) - 1
    text, sent = "", 0
    for count, token in enumerate(itertools.islice(itertools.cycle(answer), total), start=1):
        text += decoder.decode(bytes([token]), final=count == total)
        long_enough = count > (sampling.min_tokens or 0)
        ends = [end for stop in sampling.stop if (end := text.find(stop, max(0, sent - len(stop)))) >= 0]
        if long_enough and ends:
            yield (token,), text[sent : max(sent, min(ends))], FinishReason.STOP
            return
        if long_enough and token in sampling.stop_token_ids:
            yield (token,), text[sent:], FinishReason.STOP
            return
        upto = len(text) if count == total else max(sent, len(text) - hold)
        cut_short = sampling.ignore_eos or count < len(answer)
        reason = FinishReason.LENGTH if cut_short else FinishReason.STOP
        yield (token,), text[sent:upto], reason if count == total else None
        sent = upto


def _structured(answer: bytes, structure: Structure | None) -> bytes:
    """What is said in place of `answer` where the request leaves no freedom: the first of the choices."""
    match structure:
        case None:
            return answer
        case Choice(options):
            return options[0].encode()
        case _:
            raise InvalidRequest(f"the echo engine knows no {type(structure).__name__}: give it a choice")


def _certain(token_ids: tuple[int, ...], top: int | None) -> tuple[TokenLogprob, ...]:
    """An echo has no doubts: every token has probability 1."""
    if top is None:
        return ()
    sure = [TokenLogprob(token, chr(token), 0.0) for token in token_ids]
    return tuple(dataclasses.replace(each, top=(each,) if top else ()) for each in sure)


def _load(folder: Path, max_rank: int) -> str:
    """Check an adapter as far as a glance tells; return a fingerprint of its weights."""
    config = json.loads((folder / "adapter_config.json").read_text())
    rank = config.get("r")
    if not isinstance(rank, int) or not 0 < rank <= max_rank:
        raise ValueError(f"its rank is {rank!r}, and this engine serves 1 to {max_rank}")
    weights = folder / "adapter_model.safetensors"
    with safe_open(weights, framework="numpy") as tensors:
        names = list(tensors.keys())
        if not names or not all(name.endswith(_LORA_SUFFIXES) for name in names):
            raise ValueError("its weights are no LoRA")
        for name in names:
            if not np.isfinite(tensors.get_tensor(name)).all():
                raise ValueError(f"{name} holds NaN or infinite numbers")
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
