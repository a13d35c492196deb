"""One training run, from a config to a packaged adapter.

Nothing here imports torch before the run begins, so that a refusal is instant.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.adapter.manifest import Manifest
from hotshoe.registry.base import BaseModel, fetch_base
from hotshoe.registry.inspect import PLOT_FILE, REPORT_FILE
from hotshoe.train.config import TrainConfig
from hotshoe.train.gates import judge_all
from hotshoe.train.parent import Parent, Parents, fetch_parents
from hotshoe.train.processes import Processes, check_sharding, processes
from hotshoe.train.progress import Progress, Silent
from hotshoe.train.result import Sample, TrainResult

if TYPE_CHECKING:
    from hotshoe.train.batch import Batch
    from hotshoe.train.evaluate import Exam, Heard
    from hotshoe.train.lesson import Learned
    from hotshoe.train.machine import Machine
    from hotshoe.train.model import Model
    from hotshoe.train.prepare import Prepared
    from hotshoe.train.scores import Score
    from hotshoe.train.tokens import Tokenizer


def train(
    config: TrainConfig,
    *,
    out: Path,
    parents: Parents | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train as the config says; write the adapter and a report of it to the new folder `out`.

    parents: the registry that `config.parent` is read from; needed only where there is one.
    skip_bad: go on without rows that cannot be used; they are written to `NAME.rejects.jsonl` beside
    the file they came from, each with its fault.
    A run with `training.checkpoint_every_steps` that was killed goes on where it was when it is started
    again with the same config, data and `out`.
    Under torchrun or accelerate launch every process calls this with the same arguments; all but the
    first do their share of the training and leave (SystemExit).
    Raises InvalidConfig, InvalidData, BaseNotFound, BaseMismatch, Refused (the loss is not finite),
    Unservable, or the registry's errors about the parent; whatever is raised, `out` is not written.
    """
    begun = time.monotonic()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidConfig(f"{out} is not empty: name a folder that does not exist yet, or remove it first")
    together = processes()
    check_sharding(config, together)
    progress = progress if progress and together.first else Silent()
    progress.stage("Prepare")
    base = fetch_base(config.base)
    started = fetch_parents(config, parents, base)

    # Read when torch is loaded: threads that spin while they wait halve the speed on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from hotshoe.train.facts import inputs_digest
    from hotshoe.train.quiet import quiet
    from hotshoe.train.scratch import scratch_for

    with quiet():
        desk = _set_up(config, base, started, skip_bad=skip_bad)
        inputs = inputs_digest(config, base.base, desk.data.digests(), started)
        keep = config.training.checkpoint_every_steps is not None
        # Checkpoints stay until the adapter is written: the exam after the last step may be killed, too.
        with scratch_for(out, inputs, keep=keep, first=together.first) as scratch:
            outcome = _learn(desk, out, scratch, progress, together)
            if not together.first:
                sys.exit(0)
            return _write(desk, outcome, out=out, begun=begun)


@dataclass(frozen=True, slots=True)
class _Desk:
    """Everything a run works on, read and checked; nothing is trained yet."""

    config: TrainConfig
    base: BaseModel
    parents: tuple[Parent, ...]
    machine: Machine
    batch: Batch
    tokenizer: Tokenizer
    data: Prepared[Any]
    exam: Exam | None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A trained model that is still in memory, and what was heard and measured on the way.

    heard: answers of `base`, `parent`, `full` (what an adapter was extracted from) and `adapter`. figures: by
    the same names.
    """

    model: Model
    learned: Learned
    heard: Mapping[str, Heard]
    figures: Mapping[str, Mapping[str, float]]


def _set_up(config: TrainConfig, base: BaseModel, parents: tuple[Parent, ...], *, skip_bad: bool) -> _Desk:
    from hotshoe.train.batch import choose_batch, room_bytes
    from hotshoe.train.evaluate import Exam
    from hotshoe.train.load import load_of
    from hotshoe.train.machine import detect
    from hotshoe.train.model import context_tokens, load_tokenizer
    from hotshoe.train.prepare import prepare
    from hotshoe.train.recipes import RECIPES
    from hotshoe.train.shape import shape_of
    from hotshoe.train.trackers import check_trackers

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
    exam = None if data.heldout is None else Exam.of(data.heldout, config.evaluation)
    shape, _ = shape_of(config, base, parents, machine)
    load = load_of(config, data, context=context)
    batch = choose_batch(config.training, shape, load, room=room_bytes(machine))
    return _Desk(config, base, parents, machine, batch, tokenizer, data, exam)


def _learn(desk: _Desk, out: Path, scratch: Path, progress: Progress, together: Processes) -> _Outcome:
    from hotshoe.train.baseline import remembered
    from hotshoe.train.batch import settle_batch
    from hotshoe.train.lesson import Lesson
    from hotshoe.train.model import load_base, merged
    from hotshoe.train.plain import keep_beginning, load_plain, write_plain
    from hotshoe.train.recipes import RECIPES
    from hotshoe.train.trackers import tracked

    config, tokenizer = desk.config, desk.tokenizer
    exam = desk.exam if together.first else None
    model = load_base(desk.base.folder, desk.machine, config.quantize)
    heard: dict[str, Heard] = {}
    if exam is not None:
        progress.stage("Ask the base")
        key = exam.key(desk.base.base, desk.machine, config.quantize, tokenizer)
        answers = remembered(key, lambda: exam.answer(model, tokenizer, progress))
        heard["base"] = exam.hear(model, tokenizer, answers)
    recipe = RECIPES[config.recipe]
    adapted = recipe.begin(model, config, desk.parents)
    if exam is not None and config.asks_parent:
        progress.stage("Ask the parent")
        with merged(adapted):
            heard["parent"] = exam.sit(adapted, tokenizer, progress)

    def examine(who: str) -> None:
        if exam is not None:
            heard[who] = exam.sit(adapted, tokenizer, progress)

    progress.stage("Train")
    with tracked(out):
        batch = settle_batch(desk.batch, scratch)
        if config.lora.moves_base and together.first:
            keep_beginning(adapted, scratch)
        lesson = Lesson(
            adapted, tokenizer, desk.data, config, desk.machine, batch, scratch, progress, examine
        )
        learned = recipe.learn(lesson)
        if config.lora.moves_base and together.first:
            write_plain(adapted, scratch)
            # Two bases need not stand in memory at once.
            del lesson, model, adapted
            adapted = load_plain(lambda: load_base(desk.base.folder, desk.machine), scratch)
    if learned.weights is not None and together.first:
        # What was sharded stays so: the adapter goes onto a base of this process alone.
        adapted = recipe.begin(load_base(desk.base.folder, desk.machine), config, desk.parents)
        adapted.load_state_dict(learned.weights, strict=False)
    if exam is not None:
        progress.stage("Ask the adapter")
        with merged(adapted):
            heard["adapter"] = exam.sit(adapted, tokenizer, progress)
    figures = _figures(desk, adapted, heard, learned.score) if together.first else {}
    return _Outcome(adapted, learned, heard, figures)


def _figures(
    desk: _Desk, model: Model, heard: Mapping[str, Heard], score: Score | None
) -> dict[str, dict[str, float]]:
    from hotshoe.train.forgetting import measure_drift

    exam = desk.exam
    figures = {} if exam is None else {who: exam.marks(answers) for who, answers in heard.items()}
    if exam is not None and score is not None:
        for who, answers in heard.items():
            figures[who]["reward"] = exam.mean_score(answers, score)
    if desk.config.evaluation.forgetting:
        drift = measure_drift(model, desk.tokenizer)
        # From itself the base has not moved: so base and adapter have the same figures, side by side.
        figures.setdefault("base", {}).update(forgetting=0.0, general_loss=drift.base_loss)
        figures.setdefault("adapter", {}).update(forgetting=drift.divergence, general_loss=drift.adapter_loss)
    return figures


def _write(desk: _Desk, outcome: _Outcome, *, out: Path, begun: float) -> TrainResult:
    from hotshoe.train import facts
    from hotshoe.train.package import write_package
    from hotshoe.train.report import draw_run, render_report

    config = desk.config
    gates = judge_all(config.judged, outcome.figures) if config.gates else ()

    def result(manifest: Manifest) -> TrainResult:
        return TrainResult(
            folder=out,
            manifest=manifest,
            figures=outcome.figures,
            main=config.deciding,
            steps=outcome.learned.steps,
            losses=outcome.learned.losses,
            checks=outcome.learned.checks,
            kept_step=outcome.learned.kept_step,
            seconds=time.monotonic() - begun,
            rewards=outcome.learned.rewards,
            gates=gates,
            notes=desk.data.notes,
            samples=_samples(desk.exam, outcome.heard),
        )

    def describe(manifest: Manifest) -> dict[str, bytes]:
        told = result(manifest)
        plot = draw_run(told)
        page = render_report(told, plot, examples=config.publish.examples)
        return {REPORT_FILE: page.encode()} | ({PLOT_FILE: plot} if plot else {})

    manifest = write_package(
        outcome.model,
        out,
        adapter=config.publish.adapter or "",
        base=desk.base,
        training={
            **facts.training_facts(config, desk.data, outcome.learned, desk.tokenizer),
            "inputs_sha256": facts.inputs_digest(config, desk.base.base, desk.data.digests(), desk.parents),
            "merged": [str(source.version) for source in desk.parents] if config.recipe == "merge" else [],
            "gates": [gate.facts() for gate in gates],
        },
        metrics=facts.metrics(outcome.figures),
        parent=str(desk.parents[0].version) if config.parent else None,
        describe=describe,
    )
    return result(manifest)


def _samples(exam: Exam | None, heard: Mapping[str, Heard]) -> tuple[Sample, ...]:
    if exam is None:
        return ()
    return tuple(
        Sample(
            where=row.where,
            prompt=row.prompt[-1].content,
            expected=row.answer,
            answers={who: answers.answers[index].text for who, answers in heard.items()},
        )
        for index, row in enumerate(exam.examples)
    )
