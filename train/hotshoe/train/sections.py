"""The tables of a training config that every recipe reads, each frozen, with every key explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hotshoe.adapter.reference import AdapterName
from hotshoe.train.fields import Place, Section

MAX_RANK = 512
"""The largest `max_lora_rank` that vLLM knows (vllm/config/lora.py)."""


MOVING_INITS = ("pissa", "olora")
"""Ways to begin that take a part out of the base's weights; see hotshoe.train.plain."""

INITS = ("default", "gaussian", "orthogonal", "mica", *MOVING_INITS)


class DataConfig(Section):
    """Which rows to learn from, and which to be measured on."""

    train: Place | None = Field(
        default=None,
        description="Training rows: a .jsonl, .csv or .parquet file, a folder of those, or "
        "hub:org/name@revision[:split].",
    )
    heldout: Place | None = Field(default=None, description="Rows to be measured on, never trained on.")
    max_tokens: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="Longest row in tokens, prompt and answer. A longer row is an error, never cut. "
        "Default: the base's context.",
    )

    validation_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the training rows that is set aside for training.check_every_steps; unused "
        "without it. Held-out rows stay unseen until the end.",
    )

    def places(self) -> dict[str, Path | str]:
        """Every source that is named, by its key."""
        places = {"train": self.train, "heldout": self.heldout}
        return {key: place for key, place in places.items() if place is not None}


class LoraConfig(Section):
    """The shape of the adapter."""

    rank: int = Field(
        default=16, ge=1, le=MAX_RANK, description="Rank of the update; 16 holds a task, 64 a domain."
    )
    alpha: float = Field(default=32.0, gt=0, le=4096, description="The update is multiplied by alpha / rank.")
    targets: tuple[str, ...] | Literal["all-linear", "attention"] = Field(
        default="all-linear",
        description="Which modules get an update: every linear one, the textbook's q_proj and v_proj, "
        "or module names.",
    )
    last_layers: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Touch only the last N layers: less to compute, less to forget. Default: all.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of inputs dropped while training.")
    rslora: bool = Field(
        default=False, description="Scale by alpha / sqrt(rank), which keeps high ranks stable."
    )
    rank_pattern: dict[str, int] = Field(
        default_factory=dict, description="Other ranks by module name, such as {down_proj = 32}."
    )
    alpha_pattern: dict[str, float] = Field(default_factory=dict, description="Other alphas by module name.")
    init: str = Field(
        default="default",
        description="How the adapter begins: default, gaussian, orthogonal, mica; or pissa, olora, which "
        "end as a plain LoRA of twice the rank.",
    )

    @field_validator("init")
    @classmethod
    def _served(cls, name: str) -> str:
        if name == "lora_ga":
            raise ValueError(
                "lora_ga takes its beginning, made of gradients, out of the base's weights while it trains; "
                "pissa and olora do the like without gradients, and are converted"
            )
        if name in ("corda", "loftq", "eva"):
            raise ValueError(
                f"{name} begins from a pass over data or a quantized base, which no recipe makes"
            )
        if name not in INITS:
            raise ValueError(f"{name!r} is none of {', '.join(INITS)}")
        return name

    @property
    def moves_base(self) -> bool:
        """Does it begin with a part of the base's own weights, which it must give back?"""
        return self.init in MOVING_INITS

    @model_validator(mode="after")
    def _patterns_can_be_served(self) -> Self:
        for name, rank in self.rank_pattern.items():
            if not 1 <= rank <= MAX_RANK:
                raise ValueError(f"rank_pattern.{name} = {rank}: a rank is 1 to {MAX_RANK}")
        highest = max(self.rank, *self.rank_pattern.values(), 0)
        if self.moves_base and 2 * highest > MAX_RANK:
            raise ValueError(
                f"init {self.init} ends at twice the rank, {2 * highest}; vLLM takes {MAX_RANK}: halve it"
            )
        if self.rslora and (self.rank_pattern or self.alpha_pattern):
            raise ValueError("rslora does not go with patterns: peft scales each module by the common rank")
        return self


class TrainingConfig(Section):
    """How long and how fast to learn."""

    steps: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        default=None, description="Optimizer steps; instead of epochs."
    )
    epochs: Annotated[float, Field(gt=0, le=10**6)] | None = Field(
        default=None, description="Passes over all rows; default 3."
    )
    batch_rows: int = Field(
        default=4,
        ge=1,
        le=2**16,
        description="Rows in one forward pass; where memory is short, fewer in more passes.",
    )
    accumulate_batches: int = Field(
        default=1, ge=1, le=2**16, description="Forward passes in one optimizer step."
    )
    recompute: bool = Field(
        default=False,
        description="Keep no activations of a layer for the way back, but compute them again: a third more "
        "time, for a fraction of the memory.",
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Peak rate. Default: from the base's width, see docs/training.md."
    )
    warmup_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps with a rising rate.")
    lora_plus_ratio: Annotated[float, Field(ge=1, le=64)] | None = Field(
        default=None, description="LoRA+: learn B so many times faster than A; 16 is the paper's. Default: 1."
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="The rate after warm-up."
    )
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    max_gradient_norm: float = Field(default=1.0, gt=0, description="Longer gradients are shortened.")
    check_every_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Take the loss on validation rows every N steps, and keep the adapter of the best one.",
    )
    patience_checks: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Stop after so many checks without a better one. Default: never."
    )
    checkpoint_every_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Write a checkpoint every N steps, from which a killed run goes on."
    )
    seed: int = Field(default=7, ge=0, le=2**32 - 1)
    trackers: tuple[str, ...] = Field(
        default=(), description="Where steps are reported, too: tensorboard, trackio, wandb, mlflow ..."
    )
    threads: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="CPU threads. Default: what a short trial on this machine finds fastest."
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self


class PublishConfig(Section):
    """What the adapter is called, and what is told of it."""

    adapter: str | None = Field(
        default=None, alias="as", description="org/name, the adapter that gets a new version."
    )

    examples: int = Field(
        default=12,
        ge=0,
        description="Held-out rows that stand in the version's report, with what was answered to them.",
    )

    @field_validator("adapter")
    @classmethod
    def _well_formed(cls, name: str | None) -> str | None:
        if name is not None:
            AdapterName.parse(name)
        return name
