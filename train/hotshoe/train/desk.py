"""Everything that a run works on, read and checked before anything is trained; a plan looks at the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hotshoe.registry.base import BaseModel
from hotshoe.train.batch import Batch, choose_batch, room_bytes
from hotshoe.train.config import TrainConfig
from hotshoe.train.estimate import Load, Shape
from hotshoe.train.evaluate import Exam
from hotshoe.train.load import load_of
from hotshoe.train.machine import Machine, detect
from hotshoe.train.model import context_tokens, load_tokenizer
from hotshoe.train.parent import Parent
from hotshoe.train.prepare import Prepared, prepare
from hotshoe.train.recipes import RECIPES
from hotshoe.train.shape import shape_of
from hotshoe.train.tokens import Tokenizer
from hotshoe.train.trackers import check_trackers


@dataclass(frozen=True, slots=True)
class Desk:
    """A run before its first step. exam: None without held-out rows. targets: the modules that get an update.
    room: bytes that the run may take; batch: how a step's rows go through the model in them."""

    config: TrainConfig
    base: BaseModel
    parents: tuple[Parent, ...]
    machine: Machine
    tokenizer: Tokenizer
    data: Prepared[Any]
    exam: Exam | None
    shape: Shape
    targets: tuple[str, ...]
    load: Load
    room: int
    batch: Batch


def set_up(config: TrainConfig, base: BaseModel, parents: tuple[Parent, ...], *, skip_bad: bool) -> Desk:
    """Read rows, look at the machine, count; no weights are loaded.

    Raises InvalidConfig or InvalidData for whatever keeps the run from its first step.
    """
    check_trackers(config.training.trackers)
    # In bfloat16 what a beginning takes out of the base could not be given back exactly.
    machine = detect(threads=config.training.threads, exact=config.lora.moves_base)
    tokenizer, context = load_tokenizer(base.folder), context_tokens(base.folder)
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
    return Desk(
        config,
        base,
        parents,
        machine,
        tokenizer,
        data,
        exam=None if data.heldout is None else Exam.of(data.heldout, config.evaluation),
        shape=shape,
        targets=targets,
        load=load,
        room=room,
        batch=choose_batch(config.training, shape, load, room=room),
    )
