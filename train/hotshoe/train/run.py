"""One training run, from a config to a packaged adapter.

Nothing here imports torch before the run begins, so that a refusal is instant.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.adapter.manifest import Manifest
from hotshoe.registry.base import fetch_base
from hotshoe.registry.inspect import PLOT_FILE, REPORT_FILE
from hotshoe.train.config import TrainConfig
from hotshoe.train.disk import disk_explained, written_bytes
from hotshoe.train.gates import judge_all
from hotshoe.train.parent import Parents, fetch_parents
from hotshoe.train.processes import Processes, check_sharding, disband, leave, processes
from hotshoe.train.progress import Progress, Silent
from hotshoe.train.result import Sample, TrainResult
from hotshoe.train.trackers import tracked

if TYPE_CHECKING:
    from hotshoe.train.desk import Desk
    from hotshoe.train.evaluate import Exam, Heard
    from hotshoe.train.lesson import Learned
    from hotshoe.train.model import Model
    from hotshoe.train.scores import Score


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
    first do their share of the training, and their processes end here, with code 0.
    Raises InvalidConfig, InvalidData, BaseNotFound, BaseMismatch, Refused (the loss is not finite, memory or
    disk are full), Unservable, or the registry's errors about the parent; `out` is not written then.
    """
    begun = time.monotonic()
    _check_free(out)
    together = processes()
    check_sharding(config, together)
    progress = progress if progress and together.first else Silent()
    progress.stage("Prepare")
    base = fetch_base(config.base)
    started = fetch_parents(config, parents, base)

    # Read when torch is loaded: threads that spin while they wait halve the speed on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from hotshoe.train.desk import set_up
    from hotshoe.train.facts import inputs_digest
    from hotshoe.train.quiet import quiet
    from hotshoe.train.scratch import scratch_for
    from hotshoe.train.trainer import goes_on

    with quiet():
        desk = set_up(config, base, started, skip_bad=skip_bad)
        inputs = inputs_digest(config, base.base, desk.data.digests(), started)
        keep = config.training.checkpoint_every_steps is not None
        # Checkpoints stay until the adapter is written: the exam after the last step may be killed, too.
        needed = written_bytes(config, desk.shape)
        with scratch_for(out, inputs, keep=keep, first=together.first, needed=needed) as scratch:
            outcome = _learn(desk, out, scratch, progress, together)
            # It is written beside `out` first.
            with disk_explained("the adapter", out.parent, needed, lambda: goes_on(scratch)):
                result = _write(desk, outcome, out=out, begun=begun) if together.first else None
    return result or leave()


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidConfig(f"{out} is not empty: name a folder that does not exist yet, or remove it first")


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


def _learn(desk: Desk, out: Path, scratch: Path, progress: Progress, together: Processes) -> _Outcome:
    from hotshoe.train.model import load_base, merged
    from hotshoe.train.plain import load_plain
    from hotshoe.train.recipes import RECIPES

    config, recipe, first = desk.config, RECIPES[desk.config.recipe], together.first
    heard: dict[str, Heard] = {}

    def examine(who: str) -> None:
        if desk.exam is not None and first:
            heard[who] = desk.exam.sit(adapted, desk.tokenizer, progress)

    model = load_base(desk.base.folder, desk.machine, config.quantize)
    if desk.exam is not None and first:
        progress.stage("Ask the base")
        heard["base"] = _hear_base(desk, desk.exam, model, progress)
    adapted = recipe.begin(model, config, desk.parents)
    if first and config.asks_parent:
        progress.stage("Ask the parent")
        with merged(adapted):
            examine("parent")
    progress.stage("Train")
    with tracked(out):
        learned = _teach(desk, adapted, examine, scratch, progress, first=first)
    disband(together)
    if config.lora.moves_base and first:
        # Two bases need not stand in memory at once.
        del model, adapted
        adapted = load_plain(lambda: load_base(desk.base.folder, desk.machine), scratch)
    elif learned.weights is not None and first:
        # What was sharded stays so: the adapter goes onto a base of this process alone.
        adapted = recipe.begin(load_base(desk.base.folder, desk.machine), config, desk.parents)
        adapted.load_state_dict(learned.weights, strict=False)
    if desk.exam is not None and first:
        progress.stage("Ask the adapter")
        with merged(adapted):
            examine("adapter")
    figures = _figures(desk, adapted, heard, learned.score) if first else {}
    return _Outcome(adapted, learned, heard, figures)


def _hear_base(desk: Desk, exam: Exam, model: Model, progress: Progress) -> Heard:
    from hotshoe.train.baseline import remembered

    key = exam.key(desk.base.base, desk.machine, desk.config.quantize, desk.tokenizer)
    answers = remembered(key, lambda: exam.answer(model, desk.tokenizer, progress))
    return exam.hear(model, desk.tokenizer, answers)


def _teach(
    desk: Desk,
    adapted: Model,
    examine: Callable[[str], None],
    scratch: Path,
    progress: Progress,
    *,
    first: bool,
) -> Learned:
    """Train the adapter in place; what moved the base is written to `scratch` as a plain one, too."""
    from hotshoe.train.batch import settle_batch
    from hotshoe.train.lesson import Lesson
    from hotshoe.train.plain import keep_beginning, write_plain
    from hotshoe.train.recipes import RECIPES
    from hotshoe.train.trainer import goes_on

    config, turns = desk.config, desk.config.lora.moves_base and first
    needed = written_bytes(config, desk.shape)
    with disk_explained("what the run keeps", scratch, needed, lambda: goes_on(scratch)):
        batch = settle_batch(desk.batch, scratch)
        if turns:
            keep_beginning(adapted, scratch)
        lesson = Lesson(
            adapted, desk.tokenizer, desk.data, config, desk.machine, batch, scratch, progress, examine
        )
        learned = RECIPES[config.recipe].learn(lesson)
        if turns:
            write_plain(adapted, scratch)
    return learned


def _figures(
    desk: Desk, model: Model, heard: Mapping[str, Heard], score: Score | None
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


def _write(desk: Desk, outcome: _Outcome, *, out: Path, begun: float) -> TrainResult:
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
