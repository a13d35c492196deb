from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheSpec,
    SlidingWindowSpec,
)
from vllm.v1.request import Request, RequestStatus

from hotshoe.serve.room import look_for_room_first

SIZE, BLOCKS, CONTEXT = 4, 12, 40

EVERYTHING = FullAttentionSpec(block_size=SIZE, num_kv_heads=1, head_size=8, dtype=torch.float32)
WINDOW = SlidingWindowSpec(
    block_size=SIZE, num_kv_heads=1, head_size=8, dtype=torch.float32, sliding_window=6
)

BEGINS = st.tuples(st.just("begins"), st.lists(st.integers(0, 1), min_size=1, max_size=10))
GOES_ON = st.tuples(st.just("goes on"), st.integers(0, 9), st.integers(1, 6))
LEAPS = st.tuples(st.just("leaps"), st.integers(0, 9), st.integers(1, 6))
ENDS = st.tuples(st.just("ends"), st.integers(0, 9))


class Cache:
    """A KV cache as the scheduler treats it: who begins finds remembered blocks, who runs asks for more."""

    def __init__(self, *specs: KVCacheSpec) -> None:
        init_none_hash(sha256)
        groups = [KVCacheGroupSpec([f"layer {n}"], spec) for n, spec in enumerate(specs)]
        self.manager = KVCacheManager(
            KVCacheConfig(num_blocks=BLOCKS, kv_cache_tensors=[], kv_cache_groups=groups),
            max_model_len=CONTEXT,
            scheduler_block_size=SIZE,
            hash_block_size=SIZE,
        )
        self.requests: list[Request] = []
        self._hasher = get_request_block_hasher(SIZE, sha256)
        self._begun = 0

    def begins(self, prompt: Sequence[int]) -> object:
        self._begun += 1
        request = Request(
            f"r{self._begun}",
            [*prompt],
            SamplingParams(max_tokens=CONTEXT),
            None,
            block_hasher=self._hasher,
        )
        blocks, tokens, _ = self.manager.get_computed_blocks(request)
        new = len(prompt) - tokens
        given = self.manager.allocate_slots(
            request,
            new,
            num_new_computed_tokens=tokens,
            new_computed_blocks=blocks,
            num_lookahead_tokens=0,
            num_external_computed_tokens=0,
            delay_cache_blocks=False,
            num_encoder_tokens=0,
        )
        if given is not None:
            request.status = RequestStatus.RUNNING
            request.num_computed_tokens = len(prompt)
            self.requests.append(request)
        return _ids(given)

    def leaps(self, number: int, tokens: int) -> object:
        """By so many tokens at once, as in a part of a prompt."""
        if number >= len(self.requests):
            return None
        request = self.requests[number]
        new = min(tokens, CONTEXT - 1 - request.num_tokens)
        if new <= 0:
            return None
        request.append_output_token_ids([n % 2 for n in range(new)])
        given = self.manager.allocate_slots(request, new, num_lookahead_tokens=0)
        request.num_computed_tokens += new if given is not None else 0
        return _ids(given)

    def goes_on(self, number: int, tokens: int) -> object:
        """By so many tokens, of which each is the next one's input."""
        if number >= len(self.requests):
            return None
        request = self.requests[number]
        told = []
        for _ in range(min(tokens, CONTEXT - 1 - request.num_tokens)):
            request.append_output_token_ids(request.num_tokens % 2)
            given = self.manager.allocate_slots(request, 1, num_lookahead_tokens=0)
            told.append(_ids(given))
            if given is None:
                break
            request.num_computed_tokens += 1
        return told

    def ends(self, number: int) -> None:
        if number < len(self.requests):
            self.manager.free(self.requests.pop(number))

    def state(self) -> object:
        kinds = self.manager.coordinator.single_type_managers
        return (
            self.manager.block_pool.get_num_free_blocks(),
            [dict(kind.num_cached_block) for kind in kinds],
            [
                {name: [b.block_id for b in held] for name, held in kind.req_to_blocks.items()}
                for kind in kinds
            ],
            [(block.ref_cnt, block.block_hash) for block in self.manager.block_pool.blocks],
        )


def _ids(given: KVCacheBlocks | None) -> object:
    return None if given is None else given.get_block_ids()


@given(st.lists(st.one_of(BEGINS, GOES_ON, GOES_ON, LEAPS, ENDS), max_size=30))
def test_every_request_gets_what_it_would_have_got(actions: list[tuple[str, ...]]) -> None:
    ours, plain = Cache(EVERYTHING), Cache(EVERYTHING)
    look_for_room_first(ours.manager)
    for name, *arguments in actions:
        method = name.replace(" ", "_")
        assert getattr(ours, method)(*arguments) == getattr(plain, method)(*arguments)
        assert ours.state() == plain.state()


def test_only_a_token_that_needs_a_block_or_fills_one_is_looked_at() -> None:
    cache, looked = Cache(EVERYTHING), []
    look = cache.manager.allocate_slots

    def looking(request: Request, num_new_tokens: int, **asked: object) -> KVCacheBlocks | None:
        looked.append(request.num_computed_tokens + num_new_tokens)
        return look(request, num_new_tokens, **asked)

    cache.manager.allocate_slots = looking
    look_for_room_first(cache.manager)
    cache.begins([1, 0])
    looked.clear()
    cache.goes_on(0, 12)
    assert looked == [4, 5, 8, 9, 12, 13]


@pytest.mark.parametrize("specs", [(WINDOW,), (EVERYTHING, WINDOW)])
def test_where_any_token_may_free_a_block_vllm_looks_itself(specs: tuple[KVCacheSpec, ...]) -> None:
    cache = Cache(*specs)
    look_for_room_first(cache.manager)
    assert cache.manager.allocate_slots.__func__ is KVCacheManager.allocate_slots
