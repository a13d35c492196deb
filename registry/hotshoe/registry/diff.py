"""What is different between two versions of adapters: facts, results, and the weights module by module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hotshoe.adapter.errors import Unservable
from hotshoe.adapter.manifest import Manifest
from hotshoe.registry.inspect import CONFIG_FILE, WEIGHTS_FILE
from hotshoe.registry.inspect.config import AdapterConfig, parse_config, read_config
from hotshoe.registry.inspect.factors import Pair, pair_up
from hotshoe.registry.inspect.findings import Malformed, Severity, unservable
from hotshoe.registry.inspect.header import Tensor, read_header
from hotshoe.registry.inspect.values import Weights

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that differs; None on the side that lacks it. name: dotted, e.g. `training.config.epochs`."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """How far one module's ΔW moved, in Frobenius norms of scale·B·A; 0 where a side does not touch it."""

    module: str
    before: float
    after: float
    change: float

    @property
    def relative(self) -> float:
        """The change as a part of the larger of the two: 0 is the same, 1.4 unrelated, 2 the opposite."""
        largest = max(self.before, self.after)
        return self.change / largest if largest else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs. modules: every module that either side touches, the most moved first."""

    facts: tuple[Change, ...] = ()
    config: tuple[Change, ...] = ()
    training: tuple[Change, ...] = ()
    metrics: tuple[Change, ...] = ()
    files: tuple[Change, ...] = ()
    modules: tuple[ModuleChange, ...] = field(default=())

    @property
    def same(self) -> bool:
        """No fact differs, and no weight moved."""
        return not (self.facts or self.config or self.training or self.metrics or self.files) and not any(
            module.change for module in self.modules
        )


def diff(before: tuple[Manifest, Path], after: tuple[Manifest, Path]) -> Difference:
    """Compare two versions, each as its manifest and its fetched folder.

    Raises Unservable for a folder that cannot be read; what a registry hands out always can.
    """
    (old, old_folder), (new, new_folder) = before, after
    return Difference(
        facts=_changes(_facts(old), _facts(new)),
        config=_changes(_config(old_folder), _config(new_folder)),
        training=_changes(_flat(old.training), _flat(new.training)),
        metrics=_changes(old.metrics, new.metrics),
        files=_changes({f.path: f.sha256 for f in old.files}, {f.path: f.sha256 for f in new.files}),
        modules=diff_weights(old_folder, new_folder),
    )


def diff_weights(before: Path, after: Path) -> tuple[ModuleChange, ...]:
    """The norm of each module's change between two adapter folders, the most moved first.

    Exact up to rounding and without any dense product: with the factors side by side,
    ΔW' - ΔW = [B' B] · [s'A'; -sA], and the norm of a product is that of the R factors of its two sides'
    QR decompositions. Costs (r + r')² (in + out) a module.
    """
    old, new = _Adapter(before), _Adapter(after)
    changes = []
    for module in sorted(old.pairs.keys() | new.pairs.keys()):
        one, two = old.factors(module), new.factors(module)
        norms = _norm(one), _norm(two)
        changes.append(ModuleChange(module, *norms, _distance(module, one, two)))
    return tuple(sorted(changes, key=lambda change: (-change.change, change.module)))


_Factors = tuple[Matrix, Matrix]
"""(scale·A [rank, in], B [out, rank]) of one module."""


class _Adapter:
    """A folder's factors, read one module at a time."""

    def __init__(self, folder: Path) -> None:
        try:
            raw, header = read_config(folder / CONFIG_FILE), read_header(folder / WEIGHTS_FILE)
        except Malformed as broken:
            raise unservable((broken.finding,)) from broken
        pairs, wrong = pair_up(header.tensors)
        if errors := tuple(finding for finding in wrong if finding.severity is Severity.ERROR):
            raise unservable(errors)
        config = parse_config(raw)
        if config is None:
            raise Unservable(f"{folder.name}/{CONFIG_FILE} has no usable rank and alpha: inspect the adapter")
        self.pairs: dict[str, Pair] = {pair.module: pair for pair in pairs}
        self._config: AdapterConfig = config
        self._weights = Weights(folder / WEIGHTS_FILE)

    def factors(self, module: str) -> _Factors | None:
        pair = self.pairs.get(module)
        if pair is None:
            return None
        if pair.a.shape[0] != pair.b.shape[1]:
            raise Unservable(f"the factors of {module} have different ranks: inspect the adapter")
        return self._config.scale_of(module) * self._whole(pair.a), self._whole(pair.b)

    def _whole(self, tensor: Tensor) -> Matrix:
        return np.concatenate([piece.astype(np.float64) for piece in self._weights.rows(tensor)])


def _norm(factors: _Factors | None) -> float:
    if factors is None:
        return 0.0
    a, b = factors
    # |B·A| = |R_B · R_Aᵀ|, as Q's columns are orthonormal.
    return float(np.linalg.norm(_r(b) @ _r(a.T).T))


def _r(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.qr(matrix, mode="r"), np.float64)


def _distance(module: str, one: _Factors | None, two: _Factors | None) -> float:
    if one is None or two is None:
        return _norm(one or two)
    (a, b), (other_a, other_b) = one, two
    if a.shape[1] != other_a.shape[1] or b.shape[0] != other_b.shape[0]:
        raise Unservable(f"{module} has other sizes in the two adapters: they are for different bases")
    if np.array_equal(a, other_a) and np.array_equal(b, other_b):
        return 0.0
    return _norm((np.concatenate([other_a, -a]), np.concatenate([other_b, b], axis=1)))


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "adapter": manifest.adapter,
        "base": str(manifest.base),
        "rank": manifest.rank,
        "alpha": manifest.alpha,
        "targets": ", ".join(manifest.targets),
        "parent": manifest.parent,
    }


def _config(folder: Path) -> dict[str, Any]:
    try:
        return _flat(read_config(folder / CONFIG_FILE))
    except Malformed as broken:
        raise unservable((broken.finding,)) from broken


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    names = sorted(before.keys() | after.keys())
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (
                sorted(item) if key == "target_modules" and isinstance(item, list) else item
            )
    return flat
