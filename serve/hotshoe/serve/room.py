"""What a running request's next tokens need of the KV cache: mostly nothing, since its last block has room.

vLLM goes through all that they could need, for every request in every step. docs/benchmarks.md has what it
costs.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager
from vllm.v1.request import Request

_ASKED = {"num_lookahead_tokens": 0}
"""What the scheduler asks for beside the tokens of a request that runs; of one that begins it asks more."""


class Roomy:
    """Mixed into vLLM's schedulers: who has room is not looked at any further."""

    kv_cache_manager: KVCacheManager

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        look_for_room_first(self.kv_cache_manager)


def look_for_room_first(manager: KVCacheManager) -> None:
    """Have `allocate_slots` answer at once where it would neither take, free nor remember a block.

    Only where every layer attends to all tokens: elsewhere a block may be let go of with any of them.
    """
    kinds = manager.coordinator.single_type_managers
    if len(kinds) != 1 or type(kinds[0]) is not FullAttentionManager:
        return
    size, held, remembered = kinds[0].block_size, kinds[0].req_to_blocks, kinds[0].num_cached_block
    look, nothing = manager.allocate_slots, manager.empty_kv_cache_blocks

    def allocate_slots(request: Request, num_new_tokens: int, **asked: Any) -> KVCacheBlocks | None:
        if asked == _ASKED:
            tokens, name = request.num_computed_tokens + num_new_tokens, request.request_id
            if tokens <= len(held.get(name, ())) * size and tokens // size <= remembered.get(name, 0):
                return nothing
        return look(request, num_new_tokens, **asked)

    manager.allocate_slots = allocate_slots
