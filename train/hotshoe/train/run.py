"""One training run, from a config to a packaged adapter.

Nothing here imports torch before the run begins, so that a refusal is instant.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.registry.base import BaseModel, fetch_base
from hotshoe.train.config import TrainConfig
from hotshoe.train.parent import Parent, Parents, fetch_parent
from hotshoe.train.progress import Progress, Silent
from hotshoe.train.result import Sample, TrainResult

if TYPE_CHECKING:
    from hotshoe.train.evaluate import Exam, Heard
    from hotshoe.train.lesson import Learned
    from hotshoe.train.model import Model
    from hotshoe.train.prepare import Prepared
    from hotshoe.train.tokens import Tokenizer


def train(
    config: TrainConfig,
    *,
    out: Path,
    parents: Parents | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train as the config says and write the adapter to the new folder `out`.

    parents: the registry that `config.parent` is read from; needed only where there is one.
    skip_bad: go on without rows that cannot be used; they are written to `NAME.rejects.jsonl` beside
    the file they came from, each with its fault.
    Raises InvalidConfig, InvalidData, BaseNotFound, BaseMismatch, Refused (the loss is not finite),
    Unservable, or the registry's errors about the parent; whatever is raised, `out` is not written.
    """
    begun = time.monotonic()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidConfig(f"{out} is not empty: name a folder that does not exist yet, or remove it first")
    progress = progress or Silent()
    progress.stage("Prepare")
    base = fetch_base(config.base)
    ref = config.parent_ref
    parent = None if ref is None else fetch_parent(ref, parents, base)

    # Read when torch is loaded: threads that spin while they wait halve the speed on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from hotshoe.train.quiet import quiet

    with quiet(), tempfile.TemporaryDirectory(prefix="hotshoe-train-") as scratch:
        outcome = _learn_and_measure(config, base, parent, Path(scratch), progress, skip_bad=skip_bad)
        return _write(config, base, parent, outcome, out=out, begun=begun)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A trained model that is still in memory, and what was found about it."""

    model: Model
    tokenizer: Tokenizer
    data: Prepared[Any]
    learned: Learned
    exam: Exam | None
    before: Heard | None
    after: Heard | None


def _learn_and_measure(
    config: TrainConfig,
    base: BaseModel,
    parent: Parent | None,
    scratch: Path,
    progress: Progress,
    *,
    skip_bad: bool,
) -> _Outcome:
    from hotshoe.train.baseline import remembered
    from hotshoe.train.evaluate import Exam
    from hotshoe.train.lesson import Lesson
    from hotshoe.train.machine import detect
    from hotshoe.train.model import add_adapter, context_tokens, continue_adapter, load_base, load_tokenizer
    from hotshoe.train.prepare import prepare
    from hotshoe.train.recipes import RECIPES

    recipe = RECIPES[config.recipe]
    machine = detect(threads=config.training.threads)
    tokenizer = load_tokenizer(base.folder)
    data = prepare(
        config.data, recipe.rows, tokenizer, context=context_tokens(base.folder), skip_bad=skip_bad
    )
    exam = None if data.heldout is None else Exam.of(data.heldout, config.evaluation)
    model = load_base(base.folder, machine)

    before = after = None
    if exam is not None:
        progress.stage("Ask the base")
        before = remembered(exam.key(base.base, machine), lambda: exam.sit(model, tokenizer, progress))

    progress.stage("Train")
    if parent is None:
        adapted = add_adapter(model, config.lora, seed=config.training.seed)
    else:
        adapted = continue_adapter(model, parent.folder)
    learned = recipe.learn(Lesson(adapted, tokenizer, data, config, machine, scratch, progress))

    if exam is not None:
        progress.stage("Ask the adapter")
        # Merged, the answers come without the update's extra products: the same tokens, sooner.
        adapted.merge_adapter()
        after = exam.sit(adapted, tokenizer, progress)
        adapted.unmerge_adapter()
    return _Outcome(adapted, tokenizer, data, learned, exam, before, after)


def _write(
    config: TrainConfig,
    base: BaseModel,
    parent: Parent | None,
    outcome: _Outcome,
    *,
    out: Path,
    begun: float,
) -> TrainResult:
    from hotshoe.train import facts
    from hotshoe.train.package import write_package

    exam = outcome.exam
    before = exam.marks(outcome.before) if exam and outcome.before else {}
    after = exam.marks(outcome.after) if exam and outcome.after else {}
    manifest = write_package(
        outcome.model,
        out,
        adapter=config.publish.adapter or "",
        base=base,
        training=facts.training_facts(config, outcome.data, outcome.learned, outcome.tokenizer),
        metrics=facts.metrics(before, after),
        parent=None if parent is None else str(parent.version),
    )
    return TrainResult(
        folder=out,
        manifest=manifest,
        base=before,
        adapter=after,
        main=config.evaluation.deciding,
        steps=outcome.learned.steps,
        losses=outcome.learned.losses,
        seconds=time.monotonic() - begun,
        notes=outcome.data.notes,
        samples=_samples(outcome),
    )


def _samples(outcome: _Outcome) -> tuple[Sample, ...]:
    exam, before, after = outcome.exam, outcome.before, outcome.after
    if exam is None or before is None or after is None:
        return ()
    rows = zip(exam.examples, before.answers, after.answers, strict=True)
    return tuple(
        Sample(row.where, row.prompt[-1].content, row.answer, base.text, adapter.text)
        for row, base, adapter in rows
    )
