"""Our sampling as vLLM's parameters, vLLM's outputs as our chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineGenerateError

from hotshoe.adapter.errors import InvalidRequest, Unservable
from hotshoe.serve.engine import EngineChunk
from hotshoe.serve.overflow import OVERFLOWED
from hotshoe.serve.structures.judging import exhausted
from hotshoe.serve.structures.processes import BUSY
from hotshoe.serve.structures.wanted import Wanted
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


def params_of(
    sampling: Sampling, defaults: Mapping[str, Any], structure: Wanted | None = None
) -> SamplingParams:
    """vLLM's parameters; what `sampling` leaves open is as `defaults`, the base's generation config, says.

    structure: what `sampling` has of it, as the engine was told.
    """
    chosen = {name: value for name in _PLAIN_FIELDS if (value := getattr(sampling, name)) is not None}
    return _JudgedParams(
        **{**defaults, **chosen},
        n=sampling.n,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        logit_bias=dict(sampling.logit_bias) or None,
        structured_outputs=None if structure is None else StructuredOutputsParams(grammar=structure.key),
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,  # Nobody else has them.
    )


def chunks_of(output: RequestOutput, sampling: Sampling) -> Iterator[EngineChunk]:
    """A chunk for each answer that goes on in this output.

    Raises InvalidRequest where one goes no further for its structure, Exhausted where that was gone before it
    began, Unservable where whoever answers overflows, EngineGenerateError for another fault.
    """
    for answer in output.outputs:
        if answer.finish_reason == "error":
            if answer.stop_reason == BUSY:
                raise exhausted()
            if answer.stop_reason == OVERFLOWED:
                raise Unservable(
                    "the adapter, or the base without one, overflows on this prompt: its answer is no number "
                    "any more; ask another version, or train this one again at a lower rate"
                )
            if isinstance(answer.stop_reason, str):
                raise InvalidRequest(f"the engine gave this answer up: {answer.stop_reason}")
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
