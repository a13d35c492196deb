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
    from hotshoe.train.estimate import Shape


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a row's text; `learned` where it carries loss."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as foreseen. data: facts of each part, see hotshoe.train.prepare. memory_bytes and seconds are
    estimates of the training alone, without evaluation."""

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
    memory_bytes: int
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
    from hotshoe.train.machine import detect
    from hotshoe.train.model import context_tokens, load_tokenizer
    from hotshoe.train.prepare import prepare
    from hotshoe.train.recipes import RECIPES
    from hotshoe.train.trackers import check_trackers
    from hotshoe.train.trainer import learning_rate

    check_trackers(config.training.trackers)
    machine = detect(threads=config.training.threads)
    tokenizer = load_tokenizer(base.folder)
    kind = RECIPES[config.recipe].rows
    data = prepare(
        config.data,
        kind,
        tokenizer,
        context=context_tokens(base.folder),
        answer_tokens=config.evaluation.max_new_tokens,
        skip_bad=skip_bad,
    )
    shape, targets = _shape(config, base, parents, machine)
    steps = estimate.total_steps(len(data.train.rows), config.training)
    sequences = data.train.sequences
    row_tokens = sum(len(sequence.ids) for sequence in sequences) / len(data.train.rows)
    batch_tokens = round(row_tokens * config.training.batch_rows)
    flops = estimate.measure_flops(machine)
    step = estimate.step_seconds(shape, batch_tokens=batch_tokens, flops=flops)
    return Plan(
        recipe=config.recipe,
        base=base.base,
        parents=tuple(str(parent.version) for parent in parents),
        machine=machine,
        data=data.facts(),
        notes=data.notes,
        steps=steps,
        learning_rate=learning_rate(config, shape.hidden),
        parameters=shape.parameters,
        trainable=shape.trainable,
        targets=targets,
        memory_bytes=estimate.memory_bytes(
            shape, batch_tokens=max(len(row.ids) for row in sequences) * config.training.batch_rows
        ),
        seconds=steps * config.training.accumulate_batches * step,
        example=_pieces(sequences[0], tokenizer),
    )


def _shape(
    config: TrainConfig, base: BaseModel, parents: Sequence[Parent], machine: Machine
) -> tuple[Shape, tuple[str, ...]]:
    """Parameter counts from a model without weights (torch's meta device)."""
    from hotshoe.train.estimate import Shape
    from hotshoe.train.model import add_adapter, empty_base, lowest_trained_layer, trainable_parameters

    model = empty_base(base.folder)
    total = sum(parameter.numel() for parameter in model.parameters())
    adapted = add_adapter(
        model, config.lora, seed=config.training.seed, like=parents[0].folder if config.parent else None
    )
    layers = int(model.config.num_hidden_layers)
    shape = Shape(
        parameters=total,
        trainable=trainable_parameters(adapted),
        layers=layers,
        hidden=int(model.config.hidden_size),
        intermediate=int(getattr(model.config, "intermediate_size", 4 * model.config.hidden_size)),
        depth=(layers - lowest_trained_layer(adapted)) / layers,
        bytes_per_weight=2 if machine.bf16 else 4,
        recompute=config.training.recompute,
    )
    return shape, tuple(sorted(adapted.peft_config["default"].target_modules))


def _pieces(row: Encoded, tokenizer: Tokenizer) -> tuple[Piece, ...]:
    pairs = zip(row.ids, row.labels, strict=True)
    return tuple(
        Piece(tokenizer.decode([token for token, _ in group]), learned)
        for learned, group in groupby(pairs, key=lambda pair: pair[1] != NO_LOSS)
    )
