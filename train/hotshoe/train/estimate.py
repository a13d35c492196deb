"""How long and how large a run will be: arithmetic on its shape, and one short measurement of the machine."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from hotshoe.train.machine import Machine
from hotshoe.train.sections import TrainingConfig

EFFICIENCY = 0.5
"""Share of a plain matrix product's speed that a training step reaches, measured on SmolLM2."""

LIBRARY_BYTES = 9 << 26
"""What a process with torch, transformers, peft and trl takes before it has a model: 0.56 GiB."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a run's cost depends on. Parameters are counts; `depth` is the share of layers above the
    lowest one with an adapter, which is how far back the gradient goes. `adapter` counts the adapter's own
    where something else is trained, or nothing."""

    parameters: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    depth: float
    bytes_per_weight: int
    recompute: bool = False
    adapter: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """row_tokens: the tokens of each row as the trainer counts rows, answers yet to be drawn among them.

    splits: a step is the same learned at once or in parts, for its loss is a sum over tokens. A mean over
    rows or a comparison inside a batch is not. ragged: rows that fill no whole step are learned, too.
    looks: how often they go through without a way back: the reference, and for `kto` answers of other rows.
    """

    row_tokens: tuple[int, ...]
    splits: bool
    ragged: bool = True
    looks: int = 0

    @property
    def mean(self) -> float:
        return sum(self.row_tokens) / max(len(self.row_tokens), 1)

    def heaviest(self, rows: int) -> int:
        """The most tokens that `rows` rows can have together."""
        return sum(sorted(self.row_tokens, reverse=True)[:rows])

    def steps(self, training: TrainingConfig) -> int:
        """Optimizer steps of a run."""
        if not self.row_tokens:
            return 0
        if training.steps is not None:
            return training.steps
        share = len(self.row_tokens) / (training.batch_rows * training.accumulate_batches)
        whole = math.ceil(share) if self.ragged else math.floor(share)
        return math.ceil(max(whole, 1) * (training.epochs or 3.0))


def memory_bytes(shape: Shape, *, batch_tokens: int) -> int:
    """Bytes at the peak: libraries, frozen weights, what is trained with its gradient and Adam's two moments,
    activations. (Where the base's own weights are trained, they stand there once more as they were.)

    Per token and layer with a gradient, about 18 vectors of the hidden size and 8 of the intermediate
    one are kept for the way back, as measured on SmolLM2; where they are recomputed, those of one layer
    and a vector for each other.
    """
    adapter = shape.trainable * 4 * 4
    kept = (18 * shape.hidden + 8 * shape.intermediate) * 4
    layers = math.ceil(shape.layers * shape.depth)
    if shape.recompute:
        activations = batch_tokens * (kept + layers * shape.hidden * 4)
    else:
        activations = batch_tokens * layers * kept
    return LIBRARY_BYTES + shape.parameters * shape.bytes_per_weight + adapter + activations


def step_seconds(shape: Shape, *, batch_tokens: int, flops: float, looks: int = 0) -> float:
    """Seconds of one forward and backward pass; `flops` is what the machine does in a second, `looks` how
    often the same tokens go through without a way back, as through the reference of a preference.

    Two operations a weight and token on the way forward, two on the way back through frozen weights,
    whose own gradients nobody needs; and the way forward twice where it is recomputed.
    """
    again = shape.depth if shape.recompute else 0
    operations = 2 * shape.parameters * batch_tokens * (1 + again + shape.depth + looks)
    return operations / (flops * EFFICIENCY)


def measure_flops(machine: Machine) -> float:
    """Floating-point operations a second in matrix products of a training step's size."""
    import torch

    dtype = machine.torch_dtype()
    left = torch.rand(1024, 1024, device=machine.device, dtype=dtype)
    right = torch.rand(1024, 1024, device=machine.device, dtype=dtype)
    torch.mm(left, right).sum().item()
    begun, rounds = time.perf_counter(), 0
    while time.perf_counter() - begun < 0.2:
        torch.mm(left, right)[0, 0].item()
        rounds += 1
    return rounds * 2 * 1024**3 / (time.perf_counter() - begun)
