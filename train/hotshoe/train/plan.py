"""What a run would do, without doing it: tokens, parameters, memory, time, and what is learned of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hotshoe.adapter.manifest import Base
from hotshoe.registry.base import BaseModel, fetch_base
from hotshoe.train.audit import Note
from hotshoe.train.config import TrainConfig
from hotshoe.train.machine import Machine
from hotshoe.train.parent import Parent, Parents, fetch_parents
from hotshoe.train.tokens import NO_LOSS, Encoded, Tokenizer

if TYPE_CHECKING:
    from hotshoe.train.batch import Batch


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

    Raises what `train` would raise before its first step.
    """
    base = fetch_base(config.base)
    started = fetch_parents(config, parents, base)
    from hotshoe.train.quiet import quiet

    with quiet():
        return _plan(config, base, started, skip_bad=skip_bad)


def _plan(config: TrainConfig, base: BaseModel, parents: Sequence[Parent], *, skip_bad: bool) -> Plan:
    from hotshoe.train import estimate
    from hotshoe.train.batch import choose_batch, room_bytes
    from hotshoe.train.load import load_of
    from hotshoe.train.machine import detect
    from hotshoe.train.model import context_tokens, load_tokenizer
    from hotshoe.train.prepare import prepare
    from hotshoe.train.recipes import RECIPES
    from hotshoe.train.shape import shape_of
    from hotshoe.train.trackers import check_trackers
    from hotshoe.train.trainer import learning_rate

    check_trackers(config.training.trackers)
    # In bfloat16 what a beginning takes out of the base could not be given back exactly.
    machine = detect(threads=config.training.threads, exact=config.lora.moves_base)
    tokenizer = load_tokenizer(base.folder)
    context = context_tokens(base.folder)
    data = prepare(
        config.data,
        RECIPES[config.recipe].rows,
        tokenizer,
        context=context,
        answer_tokens=config.evaluation.max_new_tokens,
        skip_bad=skip_bad,
        validate_seed=config.training.seed if config.training.check_every_steps else None,
    )
    shape, targets = shape_of(config, base, parents, machine)
    load = load_of(config, data, context=context)
    room = room_bytes(machine)
    batch = choose_batch(config.training, shape, load, room=room)
    steps = load.steps(config.training)
    batch_tokens = round(load.mean * batch.rows)
    flops = estimate.measure_flops(machine)
    step = estimate.step_seconds(shape, batch_tokens=batch_tokens, flops=flops, looks=load.looks)
    shown = (*data.train.sequences, *(data.heldout.sequences if data.heldout else ()))
    return Plan(
        recipe=config.recipe,
        base=base.base,
        parents=tuple(str(parent.version) for parent in parents),
        machine=machine,
        data=data.facts(),
        notes=data.notes,
        steps=steps,
        learning_rate=learning_rate(config, shape.hidden, data.train.learned) if steps else 0.0,
        parameters=shape.parameters,
        trainable=shape.trainable,
        targets=targets,
        batch=batch,
        memory_bytes=estimate.memory_bytes(shape, batch_tokens=load.heaviest(batch.rows)),
        room_bytes=room,
        seconds=steps * batch.passes * step,
        example=_pieces(shown[0], tokenizer) if shown else (),
    )


def _pieces(row: Encoded, tokenizer: Tokenizer) -> tuple[Piece, ...]:
    pairs = zip(row.ids, row.labels, strict=True)
    return tuple(
        Piece(tokenizer.decode([token for token, _ in group]), learned)
        for learned, group in groupby(pairs, key=lambda pair: pair[1] != NO_LOSS)
    )
