"""What a run would do, without doing it: tokens, parameters, memory, time, and what is learned of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hotshoe.adapter.manifest import Base
from hotshoe.registry.base import fetch_base
from hotshoe.train.audit import Note
from hotshoe.train.config import TrainConfig
from hotshoe.train.machine import Machine
from hotshoe.train.parent import Parents, fetch_parents
from hotshoe.train.tokens import NO_LOSS, Encoded, Tokenizer

if TYPE_CHECKING:
    from hotshoe.train.batch import Batch
    from hotshoe.train.desk import Desk


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a row's text; `learned` where it carries loss."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as foreseen. data: facts of each part, see hotshoe.train.prepare. batch: how a step's rows go
    through the model on this machine, now. memory_bytes and seconds are estimates of the training alone,
    without evaluation; room_bytes is what it may take."""

    recipe: str
    base: Base
    parents: tuple[str, ...]
    machine: Machine
    data: Mapping[str, Mapping[str, Any]]
    notes: tuple[Note, ...]
    steps: int
    learning_rate: float
    parameters: int
    trainable: int
    targets: tuple[str, ...]
    batch: Batch
    memory_bytes: int
    room_bytes: int
    seconds: float
    example: tuple[Piece, ...]

    @property
    def trainable_share(self) -> float:
        return self.trainable / self.parameters


def plan(config: TrainConfig, *, parents: Parents | None = None, skip_bad: bool = False) -> Plan:
    """Look at everything that a run would use; read rows, load no weights, train nothing.

    Raises what `train` would raise about config, data and parents before its first step.
    """
    base = fetch_base(config.base)
    started = fetch_parents(config, parents, base)
    from hotshoe.train.desk import set_up
    from hotshoe.train.quiet import quiet

    with quiet():
        return _foreseen(set_up(config, base, started, skip_bad=skip_bad))


def _foreseen(desk: Desk) -> Plan:
    from hotshoe.train import estimate
    from hotshoe.train.trainer import learning_rate

    config, data, shape, load, batch = desk.config, desk.data, desk.shape, desk.load, desk.batch
    steps = load.steps(config.training)
    batch_tokens = round(load.mean * batch.rows)
    flops = estimate.measure_flops(desk.machine)
    step = estimate.step_seconds(shape, batch_tokens=batch_tokens, flops=flops, looks=load.looks)
    shown = (*data.train.sequences, *(data.heldout.sequences if data.heldout else ()))
    return Plan(
        recipe=config.recipe,
        base=desk.base.base,
        parents=tuple(str(parent.version) for parent in desk.parents),
        machine=desk.machine,
        data=data.facts(),
        notes=data.notes,
        steps=steps,
        learning_rate=learning_rate(config, shape.hidden, data.train.learned) if steps else 0.0,
        parameters=shape.parameters,
        trainable=shape.trainable,
        targets=desk.targets,
        batch=batch,
        memory_bytes=estimate.memory_bytes(shape, batch_tokens=load.heaviest(batch.rows)),
        room_bytes=desk.room,
        seconds=steps * batch.passes * step,
        example=_pieces(shown[0], desk.tokenizer) if shown else (),
    )


def _pieces(row: Encoded, tokenizer: Tokenizer) -> tuple[Piece, ...]:
    pairs = zip(row.ids, row.labels, strict=True)
    return tuple(
        Piece(tokenizer.decode([token for token, _ in group]), learned)
        for learned, group in groupby(pairs, key=lambda pair: pair[1] != NO_LOSS)
    )
