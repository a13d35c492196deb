"""Our sampling as vLLM's parameters, vLLM's outputs as our chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineGenerateError

from hotshoe.serve.engine import EngineChunk
from hotshoe.serve.structures.judging import named
from hotshoe.wire.structure import Structure
from hotshoe.wire.values import FinishReason, Sampling, TokenLogprob

_PLAIN_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "min_tokens",
    "logprobs",
)

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class _JudgedParams(SamplingParams):  # type: ignore[misc]
    """Parameters whose structure the engine has judged: vLLM would do it here, on the server's event loop."""

    def _validate_structured_outputs(self, *_: Any) -> None:
        if self.structured_outputs is not None:
            self.structured_outputs._backend = "xgrammar"


def params_of(sampling: Sampling, defaults: Mapping[str, Any]) -> SamplingParams:
    """vLLM's parameters; what `sampling` leaves open is as `defaults`, the base's generation config, says."""
    chosen = {name: value for name in _PLAIN_FIELDS if (value := getattr(sampling, name)) is not None}
    return _JudgedParams(
        **{**defaults, **chosen},
        n=sampling.n,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        logit_bias=dict(sampling.logit_bias) or None,
        structured_outputs=_structure(sampling.structure),
        output_kind=RequestOutputKind.DELTA,
    )


def chunks_of(output: RequestOutput, sampling: Sampling) -> Iterator[EngineChunk]:
    """A chunk for each answer that goes on in this output.

    Raises EngineGenerateError where one goes no further for a fault of the engine or of its structure.
    """
    for answer in output.outputs:
        if answer.finish_reason == "error":
            raise EngineGenerateError("it gave up on an answer")
        reason = None
        if answer.finish_reason is not None:
            reason = _FINISH.get(answer.finish_reason, FinishReason.ABORTED)
        yield EngineChunk(
            text=answer.text,
            token_ids=tuple(answer.token_ids),
            finish_reason=reason,
            prompt_tokens=len(output.prompt_token_ids or ()),
            cached_tokens=output.num_cached_tokens or 0,
            index=answer.index,
            logprobs=_logprobs(answer, sampling.logprobs or 0),
        )


def _structure(structure: Structure | None) -> StructuredOutputsParams | None:
    if structure is None:
        return None
    kind, text = named(structure)
    return StructuredOutputsParams(**{kind: text})


def _logprobs(answer: CompletionOutput, top: int) -> tuple[TokenLogprob, ...]:
    if not answer.logprobs:
        return ()
    # vLLM tells of the token itself, and of the likeliest ones whether it is among them or not.
    return tuple(
        TokenLogprob(token, found[token].decoded_token or "", found[token].logprob, _likeliest(found, top))
        for token, found in zip(answer.token_ids, answer.logprobs, strict=True)
    )


def _likeliest(found: Mapping[int, Logprob], top: int) -> tuple[TokenLogprob, ...]:
    ranked = sorted(found.items(), key=lambda item: item[1].rank or 0)[:top]
    return tuple(TokenLogprob(token, each.decoded_token or "", each.logprob) for token, each in ranked)
