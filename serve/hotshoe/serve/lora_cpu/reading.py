"""Reads an adapter's file straight into the layout of the operators, a layer at a time.

vLLM reads every tensor into memory of its own, scales it, joins the layers that it fuses, and only then
could we pack them: each byte is touched four times, and most of that is the kernel's handing out of fresh
pages. Here each byte is read once and written once, into one block of large pages.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from vllm.lora.utils import parse_fine_tuned_lora_name

from hotshoe.registry.inspect.folder import WEIGHTS_FILE
from hotshoe.registry.inspect.header import Tensor, read_header
from hotshoe.serve.lora_cpu.kernel import Floats, all_finite, transpose_scaled
from hotshoe.serve.lora_cpu.weights import LayerWeights, laid_out

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
}

_LARGE_PAGE = 2 << 20


@dataclass(frozen=True, slots=True)
class Module:
    """One of PEFT's modules: A [rank, inputs] and B [outputs, rank] in the file, and what B is scaled by."""

    name: str
    a: Tensor
    b: Tensor
    rank: int
    scaling: float


class AdapterFile:
    """The weights of one adapter, open for reading. Close it, or use it as a context manager."""

    def __init__(self, modules: Mapping[str, Module], path: Path) -> None:
        self.modules = modules
        numbers = sum(math.prod(each.shape) for module in modules.values() for each in (module.a, module.b))
        self._left = _fresh(numbers)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115

    @classmethod
    def open(cls, folder: Path, rank_and_scaling: Callable[[str], tuple[int, float]]) -> Self | None:
        """The file in `folder`; None where it is not plain pairs of A and B, which is for vLLM to judge.

        rank_and_scaling: of a module, by its name.
        """
        path = folder / WEIGHTS_FILE
        modules = _paired(read_header(path).tensors, rank_and_scaling)
        return None if modules is None else cls(modules, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def read(self, modules: Sequence[Module | None]) -> LayerWeights:
        """The weights of a layer that vLLM fuses of these, in this order; None has no adapter.

        The shapes have to be right: see `Module`. Raises ValueError for NaN and infinite numbers.
        """
        present = [(index, module) for index, module in enumerate(modules) if module is not None]
        whole = self._left
        a = self._take(sum(module.rank for _, module in present), present[0][1].a.shape[1])
        row = 0
        parts = []
        for index, module in present:
            self._fill(a[row : row + module.rank], module.a)
            row += module.rank
            parts.append((index, torch.from_numpy(self._scaled(module))))
        if not all_finite(whole[: len(whole) - len(self._left)]):
            names = ", ".join(module.name for _, module in present)
            raise ValueError(f"{names} hold NaN or infinite numbers")
        return laid_out(torch.from_numpy(a), parts, len(modules))

    def _scaled(self, module: Module) -> Floats:
        stored = np.empty(module.b.shape, np.float32)
        self._fill(stored, module.b)
        b = self._take(module.rank, module.b.shape[0])
        transpose_scaled(b, stored, module.scaling)
        return b

    def _fill(self, target: Floats, place: Tensor) -> None:
        """Read a tensor, whatever its precision, into contiguous floats of its shape."""
        dtype = _DTYPES[place.dtype]
        stored = np.empty(place.shape, dtype) if dtype != np.float32 else target
        space = stored.reshape(-1).view(np.uint8).data
        while space:
            count = os.preadv(self._file.fileno(), [space], place.end - len(space))
            if not count:
                raise ValueError(f"{place.name} is cut off in the file")
            space = space[count:]
        if place.dtype == "BF16":  # The upper half of a float; numpy knows no such type.
            np.left_shift(stored, 16, out=target.view(np.uint32), dtype=np.uint32)
        elif stored is not target:
            target[:] = stored

    def _take(self, rows: int, columns: int) -> Floats:
        taken, self._left = self._left[: rows * columns], self._left[rows * columns :]
        return taken.reshape(rows, columns)


def _paired(
    tensors: Iterable[Tensor], rank_and_scaling: Callable[[str], tuple[int, float]]
) -> dict[str, Module] | None:
    found: dict[str, dict[bool, Tensor]] = {}
    for tensor in tensors:
        if not tensor.name.endswith((".lora_A.weight", ".lora_B.weight")) or tensor.dtype not in _DTYPES:
            return None
        name, is_a = parse_fine_tuned_lora_name(tensor.name)
        if found.setdefault(name, {}).setdefault(is_a, tensor) is not tensor:
            return None
    modules = {}
    for name, pair in found.items():
        if len(pair) < 2 or any(len(each.shape) != 2 for each in pair.values()):
            return None
        modules[name] = Module(name, pair[True], pair[False], *rank_and_scaling(name))
    return modules


def _fresh(numbers: int) -> Floats:
    """Memory for so many floats; it goes with the last array that is a part of it.

    In large pages where that fits: handing out small ones takes longer than reading the file.
    """
    size = numbers * 4
    if size < _LARGE_PAGE:
        return np.empty(numbers, np.float32)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # A kernel without them.
        block.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(block, np.float32)
