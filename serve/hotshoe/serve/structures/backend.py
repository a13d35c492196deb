"""vLLM's structured output with the matching done elsewhere; vLLM asks for it as for its own backends."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from vllm.v1.structured_output.backend_types import (
    StructuredOutputBackend,
    StructuredOutputGrammar,
    StructuredOutputOptions,
)
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

from hotshoe.serve.structures.process import Follower
from hotshoe.serve.structures.processes import Processes, Zygote


class ApartBackend(StructuredOutputBackend):  # type: ignore[misc]
    """Follows structures in processes of their own; `processes` has been asked for a verdict before."""

    def __init__(self, vllm_config: Any, tokenizer: Any, vocab_size: int) -> None:
        super().__init__(vllm_config, tokenizer, vocab_size)
        self.processes = Processes(self._zygote)

    def compile_grammar(
        self,
        request_type: StructuredOutputOptions,
        grammar_spec: str,
        stop_token_ids: set[int] | None = None,
    ) -> StructuredOutputGrammar:
        # The text is the key of a structure that was told of when the verdict on it was asked for.
        stops = tuple(sorted(stop_token_ids or ()))
        return ApartGrammar(self.processes, self.processes.open(grammar_spec, stops))

    def allocate_token_bitmask(self, max_num_seqs: int) -> torch.Tensor:
        return torch.full((max_num_seqs, (self.vocab_size + 31) // 32), -1, dtype=torch.int32)

    def destroy(self) -> None:
        self.processes.close()

    def _zygote(self) -> Zygote:
        # It also loads the library here, where steps use it: not in the middle of one.
        known = XgrammarBackend(self.vllm_config, self.tokenizer, self.vocab_size)
        smallest = known.compiler.compile_grammar('root ::= "a"')  # The compiler itself does not tell.
        return Zygote(smallest.tokenizer_info.serialize_json())


class ApartGrammar(StructuredOutputGrammar):  # type: ignore[misc]
    """One answer's way through its structure."""

    def __init__(self, processes: Processes, follower: Follower) -> None:
        self.follower = follower
        self._processes = processes
        weakref.finalize(self, processes.close_follower, follower)

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        return self._processes.accept(self.follower, tuple(tokens))

    def fill_bitmask(self, bitmask: torch.Tensor, batch_index: int) -> None:
        row = bitmask[batch_index]
        if not self._processes.ready(self.follower):  # The scheduler has seen to it that it is.
            self._processes.give_up(self.follower, "the step could not wait for the structure")
        if self.follower.fault is not None or self.follower.mask is None:
            row.fill_(-1)  # Where it failed the answer ends with whatever comes.
        else:
            row.copy_(torch.frombuffer(bytearray(self.follower.mask), dtype=torch.int32))

    def is_terminated(self) -> bool:
        return self.follower.ended

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        raise NotImplementedError("structures are not followed through drafts: serve without speculation")

    def rollback(self, num_tokens: int) -> None:
        raise NotImplementedError("structures are not followed through drafts: serve without speculation")

    def reset(self) -> None:
        raise NotImplementedError("an answer begins once")
