"""Loads adapters little by little, several at a time, between the engine's steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vllm.lora.request import LoRARequest
from vllm.v1.engine.exceptions import EngineDeadError

from hotshoe.adapter.errors import AdapterLoadFailed, EngineUnavailable
from hotshoe.serve.vllm_core import Core

log = logging.getLogger(__name__)

LOADS_AT_ONCE = 16
"""Named to the core together: it does as many of them as fit between two steps."""

Progress = bool | str | None
"""Of one worker about one load: as `WorkerExtension.hotshoe_add`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Load:
    request: LoRARequest
    done: asyncio.Future[bool]


class Loads:
    """The loads under way in one core. All methods belong to its event loop.

    They take turns: whoever used the time between two steps and is not done goes behind the others. So a
    small adapter waits for a piece of each large one that came before it, not for the whole.
    """

    def __init__(self, core: Core, idle: Callable[[], bool]) -> None:
        """idle: whether nobody waits for the core's next step."""
        self._core = core
        self._idle = idle
        self._waiting: dict[int, _Load] = {}
        self._turns: asyncio.Task[None] | None = None

    async def load(self, request: LoRARequest) -> bool:
        """As vLLM's `add_lora`; where it fails or is cancelled, what the core has of it is still to remove.

        Raises AdapterLoadFailed for what the core finds wrong, EngineDeadError where it dies, and
        EngineUnavailable where it does not do what it is asked, which is no adapter's fault.
        """
        load = _Load(request, asyncio.get_running_loop().create_future())
        self._waiting[request.lora_int_id] = load
        if self._turns is None or self._turns.done():
            self._turns = asyncio.create_task(self._take_turns(), name="load adapters")
            self._turns.add_done_callback(self._end)
        try:
            return await load.done
        finally:
            self._waiting.pop(request.lora_int_id, None)

    async def _take_turns(self) -> None:
        while self._waiting:
            await self._go_on(list(self._waiting.values())[:LOADS_AT_ONCE])

    def _end(self, turns: asyncio.Task[None]) -> None:
        """Tell those who still wait, for nobody else ever would, that their turn does not come."""
        error = asyncio.CancelledError() if turns.cancelled() else turns.exception()
        if error is None or turns is not self._turns:
            return
        dead = isinstance(error, EngineDeadError)
        if not dead:
            log.error("the engine's loads are called off", exc_info=error)
        for load in list(self._waiting.values()):
            self._leave(load, EngineDeadError() if dead else _called_off(load.request.lora_name))

    async def _go_on(self, turn: Sequence[_Load]) -> None:
        """Have the core go on with as many of these as it gets to."""
        wanted = [(each.request.lora_name, each.request.lora_int_id, each.request.lora_path) for each in turn]
        # One call at a time: vLLM does all that it is asked before it takes the next step.
        answers = await self._core.call("hotshoe_add", wanted, self._idle())
        for load, of_workers in zip(turn, zip_longest(*answers), strict=False):
            self._hear(load, of_workers)

    def _hear(self, load: _Load, answers: Sequence[Progress]) -> None:
        failures = [each for each in answers if isinstance(each, str)]
        key = load.request.lora_int_id
        if failures:
            name = load.request.lora_name
            text = f"the engine refuses {name}: {failures[0]}"
            self._leave(load, AdapterLoadFailed(text, details={"adapter": name}))
        elif None not in answers:
            self._leave(load, all(answers))
        elif key in self._waiting:
            self._waiting[key] = self._waiting.pop(key)

    def _leave(self, load: _Load, end: bool | Exception) -> None:
        self._waiting.pop(load.request.lora_int_id, None)
        if load.done.done():  # Whoever waited has given up.
            return
        if isinstance(end, Exception):
            load.done.set_exception(end)
        else:
            load.done.set_result(end)


def _called_off(name: str) -> EngineUnavailable:
    return EngineUnavailable(f"the engine does not load {name} now: try again", details={"adapter": name})
