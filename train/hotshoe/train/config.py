"""What a training run is told: one TOML file, read once, frozen, refused early.

Paths in the file are relative to the file. Unknown keys are errors that name the nearest known key.
Nothing here imports torch, so a bad config is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from hotshoe.adapter.errors import InvalidConfig, InvalidReference
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.train.exam_section import EvaluationConfig
from hotshoe.train.fields import Section, rooted
from hotshoe.train.gates import FIGURES, Gate
from hotshoe.train.metrics import METRICS
from hotshoe.train.reading import explain, nearest, read_toml
from hotshoe.train.recipe_sections import MergeConfig, PreferenceConfig, RewardConfig
from hotshoe.train.sections import DataConfig, LoraConfig, PublishConfig, TrainingConfig


class TrainConfig(Section):
    """A whole run. `hotshoe train CONFIG.toml` reads it; `docs/training.md` explains every key."""

    recipe: Literal["sft", "pretrain", "dpo", "kto", "full", "merge", "rlhf"] = "sft"
    base: str = Field(
        description="The frozen model: a folder, org/repo[@revision] on the Hub, or package:NAME."
    )
    parent: str | None = Field(
        default=None, description="org/name[@selector] of the version to continue from."
    )
    quantize: Literal["nf4", "int8"] | None = Field(
        default=None,
        description="Hold the frozen base in 4 or 8 bits while training (QLoRA, with bitsandbytes).",
    )
    data: DataConfig
    lora: LoraConfig = LoraConfig()
    training: TrainingConfig = TrainingConfig()
    preference: PreferenceConfig = PreferenceConfig()
    merge: MergeConfig = MergeConfig()
    reward: RewardConfig = RewardConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gates: tuple[str, ...] = Field(
        default=(), description='What a version must reach to be promoted: "f1 >= base + 0.05".'
    )
    publish: PublishConfig = Field(default_factory=lambda: PublishConfig.model_validate({}))

    @field_validator("base")
    @classmethod
    def _beside_the_file(cls, base: str, info: ValidationInfo) -> str:
        # A folder is written relative to the file, like every other path in it.
        folder = rooted(base, info)
        return str(folder.resolve()) if ":" not in base and (folder / "config.json").is_file() else base

    @field_validator("parent")
    @classmethod
    def _well_formed(cls, ref: str | None) -> str | None:
        if ref is not None:
            AdapterRef.parse(ref)
        return ref

    @model_validator(mode="after")
    def _figures_are_measured(self) -> Self:
        for where, name in (
            *((f"gates: {gate}", gate.metric) for gate in self.judged),
            ("evaluation.main", self.deciding),
        ):
            if name not in self.measured:
                hint = nearest(name, self.measured) or f"; there are: {', '.join(self.measured)}"
                raise ValueError(f"{where} needs {name!r}, which is not measured{hint}")
        if any(gate.reference == "parent" for gate in self.judged) and self.parent is None:
            raise ValueError("gates: one compares with a parent, and there is none")
        if self.gates and self.data.heldout is None:
            raise ValueError("gates: they judge held-out figures; name data.heldout")
        return self

    @model_validator(mode="after")
    def _has_what_its_recipe_needs(self) -> Self:
        if self.recipe == "merge":
            if len(self.merge.sources) < 2 or self.parent is not None or self.data.train is not None:
                raise ValueError("merge: name two or more merge.sources, and neither parent nor data.train")
        elif self.data.train is None:
            raise ValueError("data.train: missing")
        named = (self.reward.metric, self.reward.function, self.reward.rankings)
        if self.recipe == "rlhf" and sum(name is not None for name in named) != 1:
            raise ValueError("rlhf: name one of reward.metric, reward.function and reward.rankings")
        known = (*METRICS, *self.evaluation.own())
        if (metric := self.reward.metric) is not None and metric not in known:
            raise ValueError(
                f"reward.metric: no metric {metric!r}{nearest(metric, known)}; there are: {', '.join(known)}"
            )
        if self.training.check_every_steps is not None and self.recipe not in ("sft", "pretrain"):
            raise ValueError("training.check_every_steps: only sft and pretrain take a validation loss")
        if self.quantize and self.recipe in ("full", "merge"):
            raise ValueError(f"quantize: {self.recipe} needs the base's own weights; leave it out")
        if self.lora.moves_base and (self.quantize or self.recipe in ("full", "merge")):
            other = f"quantize = {self.quantize}" if self.quantize else f"recipe {self.recipe}"
            raise ValueError(
                f"lora.init {self.lora.init}: takes a part out of the base's weights, which {other} cannot "
                "give back exactly; use default"
            )
        if self.recipe == "full" and (self.parent or self.training.checkpoint_every_steps):
            raise ValueError("full: starts from the base and writes no checkpoints; leave both out")
        return self

    @model_validator(mode="after")
    def _parent_decides_the_shape(self) -> Self:
        if self.parent is not None and self.lora.model_fields_set:
            keys = ", ".join(sorted(self.lora.model_fields_set))
            raise ValueError(f"[lora] {keys}: a run with a parent keeps the parent's shape; leave [lora] out")
        return self

    @property
    def judged(self) -> tuple[Gate, ...]:
        """The gates, parsed."""
        return tuple(Gate.parse(text) for text in self.gates)

    @property
    def measured(self) -> tuple[str, ...]:
        """Every figure that the run will have of its adapter, as far as that is known before it."""
        absent = {
            *(() if self.recipe == "dpo" else ("preferred",)),
            *(() if self.recipe == "rlhf" else ("reward",)),
            *(() if self.evaluation.forgetting else ("forgetting", "general_loss")),
            # Running text asks nothing: there are no answers to be scored.
            *(("ended", *self.evaluation.scored) if self.recipe == "pretrain" else ()),
        }
        return tuple(name for name in (*self.evaluation.scored, *FIGURES) if name not in absent)

    @property
    def deciding(self) -> str:
        """The figure that ranks the trials of a sweep."""
        return self.evaluation.main or ("loss" if self.recipe == "pretrain" else self.evaluation.metrics[0])

    @property
    def asks_parent(self) -> bool:
        """Is the parent measured, too?"""
        compared = any(gate.reference == "parent" for gate in self.judged)
        return self.parent is not None and (self.evaluation.parent or compared)

    @property
    def adapter(self) -> AdapterName | None:
        return None if self.publish.adapter is None else AdapterName.parse(self.publish.adapter)

    def facts(self) -> dict[str, Any]:
        """The config as it stands in a manifest: plain JSON, no path of this machine."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"base", "publish"})

    def files(self) -> dict[str, Path]:
        """Files other than rows whose content decides the run's outcome, by key."""
        functions = {f"evaluation.{name}": place for name, place in self.evaluation.functions.items()}
        if self.reward.function is not None:
            functions["reward"] = self.reward.function
        code = {key: Path(place.rpartition(":")[0]) for key, place in functions.items()}
        return code | {f"evaluation.{name}": path for name, path in self.evaluation.schemas.items()}

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, str] | None = None) -> TrainConfig:
        """Read a config file; raise InvalidConfig that names every wrong key.

        overrides: dotted keys with values in TOML's notation (`{"training.steps": "20"}`); text that
        is no TOML value counts as a string.
        """
        return cls.parse(read_toml(path, overrides or {}), folder=path.parent, source=str(path))

    @classmethod
    def parse(cls, raw: Mapping[str, Any], *, folder: Path, source: str = "config") -> TrainConfig:
        """Check a config that is already a mapping; relative paths are taken from `folder`."""
        try:
            return cls.model_validate(raw, context={"folder": folder})
        except ValidationError as error:
            raise InvalidConfig(f"{source} is not a training config:\n{explain(error, cls)}") from None
        except InvalidReference as error:
            raise InvalidConfig(f"{source} is not a training config:\n  {error}") from None
