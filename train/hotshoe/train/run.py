"""One training run, from a config to a packaged adapter.

Nothing here imports torch before the run begins, so that a refusal is instant.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hotshoe.adapter.errors import BaseMismatch, InvalidConfig
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.registry.base import BaseModel, fetch_base
from hotshoe.train.config import TrainConfig
from hotshoe.train.progress import Progress, Silent

if TYPE_CHECKING:
    from hotshoe.train.evaluate import Exam, Heard


class Parents(Protocol):
    """Where a parent version comes from; `hotshoe.registry.Registry` is one."""

    def resolve(self, ref: AdapterRef) -> Version: ...
    def fetch(self, version: Version) -> Path: ...
    def manifest(self, version: Version) -> Manifest: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out row with what was expected and what base and adapter said."""

    where: str
    prompt: str
    expected: str
    base: str
    adapter: str


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run made.

    folder: a PEFT folder with `.hotshoe/manifest.json`, ready for `Registry.publish`.
    base, adapter: held-out figures by metric name, empty without held-out rows. main: the metric that
    decides. losses: training loss of each step. seconds: wall time of the whole run.
    """

    folder: Path
    manifest: Manifest
    base: Mapping[str, float]
    adapter: Mapping[str, float]
    main: str
    steps: int
    losses: tuple[float, ...]
    seconds: float
    samples: tuple[Sample, ...] = field(repr=False, default=())


def train(
    config: TrainConfig, *, out: Path, parents: Parents | None = None, progress: Progress | None = None
) -> TrainResult:
    """Train as the config says and write the adapter to the new folder `out`.

    parents: the registry that `config.parent` is read from; needed only where there is one.
    Raises InvalidConfig, InvalidData, BaseNotFound, BaseMismatch, Refused (the loss is not finite),
    Unservable, or the registry's errors about the parent; whatever is raised, `out` is not written.
    """
    begun = time.monotonic()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidConfig(f"{out} is not empty: name a folder that does not exist yet, or remove it first")
    progress = progress or Silent()
    progress.stage("Prepare")
    base = fetch_base(config.base)
    parent = _Parent.of(config, parents, base)

    # Read when torch is loaded: threads that spin while they wait halve the speed on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from hotshoe.train.quiet import quiet

    with quiet(), tempfile.TemporaryDirectory(prefix="hotshoe-train-") as scratch:
        return _train(config, base, parent, out=out, scratch=Path(scratch), progress=progress, begun=begun)


@dataclass(frozen=True, slots=True)
class _Parent:
    """A version to continue from, with its verified files."""

    version: Version
    folder: Path

    @classmethod
    def of(cls, config: TrainConfig, parents: Parents | None, base: BaseModel) -> _Parent | None:
        ref = config.parent_ref
        if ref is None:
            return None
        if parents is None:
            raise InvalidConfig(f"parent = {str(ref)!r}: name the registry that holds it (--registry)")
        version = parents.resolve(ref)
        theirs = parents.manifest(version).base
        if theirs.digest != base.base.digest:
            raise BaseMismatch(f"parent {version} was trained on {theirs}, this run's base is {base.base}")
        return cls(version, parents.fetch(version))


def _train(
    config: TrainConfig,
    base: BaseModel,
    parent: _Parent | None,
    *,
    out: Path,
    scratch: Path,
    progress: Progress,
    begun: float,
) -> TrainResult:
    from hotshoe.train import facts, machine, package
    from hotshoe.train.baseline import remembered
    from hotshoe.train.evaluate import Exam
    from hotshoe.train.model import add_adapter, continue_adapter, load_base, load_tokenizer
    from hotshoe.train.prepare import prepare
    from hotshoe.train.sft import train_sft

    here = machine.detect(threads=config.training.threads)
    tokenizer = load_tokenizer(base.folder)
    model = load_base(base.folder, here)
    data = prepare(config.data, tokenizer, context=int(model.config.max_position_embeddings))
    exam = None if data.heldout is None else Exam.of(data.heldout, config.evaluation)

    before = after = None
    if exam is not None:
        progress.stage("Ask the base")
        before = remembered(exam.key(base.base, here), lambda: exam.sit(model, tokenizer, progress))

    progress.stage("Train")
    if parent is None:
        adapted = add_adapter(model, config.lora, seed=config.training.seed)
    else:
        adapted = continue_adapter(model, parent.folder)
    learned = train_sft(
        adapted, tokenizer, data.train.rows, config.training, machine=here, scratch=scratch, progress=progress
    )
    if exam is not None:
        progress.stage("Ask the adapter")
        # Merged, the answers come without the update's extra products: the same tokens, sooner.
        adapted.merge_adapter()
        after = exam.sit(adapted, tokenizer, progress)
        adapted.unmerge_adapter()

    marks = {"base": exam.marks(before), "adapter": exam.marks(after)} if exam and before and after else {}
    manifest = package.write_package(
        adapted,
        out,
        adapter=config.publish.adapter or "",
        base=base,
        training=facts.training_facts(config, data, learned, tokenizer),
        metrics=facts.metrics(marks.get("base", {}), marks.get("adapter", {})),
        parent=None if parent is None else str(parent.version),
    )
    return TrainResult(
        folder=out,
        manifest=manifest,
        base=marks.get("base", {}),
        adapter=marks.get("adapter", {}),
        main=config.evaluation.deciding,
        steps=learned.steps,
        losses=learned.losses,
        seconds=time.monotonic() - begun,
        samples=_samples(exam, before, after),
    )


def _samples(exam: Exam | None, before: Heard | None, after: Heard | None) -> tuple[Sample, ...]:
    if exam is None or before is None or after is None:
        return ()
    rows = zip(exam.examples, before.answers, after.answers, strict=True)
    return tuple(
        Sample(row.where, row.prompt[-1].content, row.answer, base.text, adapter.text)
        for row, base, adapter in rows
    )
