"""Whether a version may be promoted by the gates that its training run judged."""

from __future__ import annotations

from collections.abc import Mapping

from hotshoe.adapter.errors import GateFailed
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.version import Version


def failed_gates(manifest: Manifest) -> tuple[str, ...]:
    """The gates of `training.gates` that did not pass; one that cannot be read counts as not passed."""
    judged = manifest.training.get("gates", ())
    if not isinstance(judged, list | tuple):
        return ("training.gates is no list",)
    return tuple(
        str(gate.get("gate", "?")) if isinstance(gate, Mapping) else str(gate)
        for gate in judged
        if not isinstance(gate, Mapping) or gate.get("passed") is not True
    )


def check_gates(version: Version, manifest: Manifest) -> None:
    """Raise GateFailed where the version's own gates did not pass."""
    if failed := failed_gates(manifest):
        raise GateFailed(
            f"{version} did not pass {', '.join(failed)}: train it better, or promote it with --force, which "
            "the history keeps",
            details={"version": str(version), "gates": "; ".join(failed)},
        )
