"""How adapters and versions are shown: in tables to people, as JSON to machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from hotshoe.cli.verb import print_json, print_table, printable

if TYPE_CHECKING:
    from hotshoe.registry import AdapterState, AdapterSummary, Move, VersionState

NAMES_SHOWN = 4


def summary_json(summary: AdapterSummary) -> dict[str, Any]:
    """A line of a listing as JSON."""
    return {
        "adapter": str(summary.adapter),
        "latest": f"v{summary.latest}",
        "versions": summary.versions,
        "aliases": summary.aliases,
        "base": summary.base,
        "metrics": summary.metrics,
        "tags": summary.tags,
    }


def print_summaries(title: str, found: Iterable[AdapterSummary]) -> None:
    """Adapters, one a line."""
    print_table(
        title,
        ("adapter", "latest", "aliases", "base", "tags", "metrics"),
        (
            (
                str(each.adapter),
                f"v{each.latest}",
                _pairs(each.aliases),
                each.base,
                ", ".join(each.tags),
                _numbers(each.metrics),
            )
            for each in found
        ),
    )


def move_json(move: Move) -> dict[str, Any]:
    """A move of an alias as JSON."""
    from hotshoe.registry import targets_text

    return {
        "adapter": str(move.adapter),
        "alias": move.alias,
        "from": targets_text(move.before),
        "to": targets_text(move.to),
        "etag": move.etag,
        "actor": move.actor,
        "reason": move.reason,
        "promotion_id": move.promotion_id,
        "at": move.at,
    }


def show_adapter(state: AdapterState, *, as_json: bool) -> None:
    """Versions and aliases of one adapter."""
    from hotshoe.registry import targets_text

    if as_json:
        print_json(
            {
                "adapter": str(state.adapter),
                "aliases": {
                    name: {"target": targets_text(each.targets), "etag": each.etag, "at": each.move.at}
                    for name, each in state.aliases.items()
                },
                "versions": [_version_json(each) for each in state.versions],
            }
        )
        return
    print_table(
        str(state.adapter),
        ("version", "alias", "published", "by", "base", "rank", "metrics", "message"),
        (
            (
                each.version.tag,
                ", ".join(_aliases_of(state, each)),
                f"{each.publication.at:%Y-%m-%d %H:%M:%SZ}",
                each.publication.actor,
                each.manifest.base.repo,
                str(each.manifest.rank),
                _numbers(each.manifest.metrics),
                each.publication.message,
            )
            for each in state.versions
        ),
    )
    for name, alias in sorted(state.aliases.items()):
        target = targets_text(alias.targets)
        # On one line: a reason of two could pass for an alias of its own.
        why = " ".join(printable(alias.move.reason).split())
        typer.echo(f"{name} -> {target}  etag {alias.etag}  {why}")


def show_version(state: VersionState, *, as_json: bool) -> None:
    """Everything about one version."""
    if as_json:
        print_json(_version_json(state))
        return
    version, manifest = state.version, state.manifest
    facts = {
        "version": str(version),
        "published": f"{state.publication.at:%Y-%m-%d %H:%M:%SZ} by {state.publication.actor}",
        "message": state.publication.message,
        "commit": version.commit,
        "manifest": version.manifest_sha256,
        "base": str(manifest.base),
        "parent": manifest.parent or "",
        "rank, alpha": f"{manifest.rank}, {manifest.alpha:g}",
        "targets": ", ".join(manifest.targets),
        "files": "\n".join(f"{each.path}  {each.size:,} bytes" for each in manifest.files),
        "metrics": "\n".join(f"{name} {value:.4g}" for name, value in sorted(manifest.metrics.items())),
        "training": "\n".join(f"{name}: {value}" for name, value in sorted(manifest.training.items())),
    }
    print_table(str(version), ("what", "value"), [(name, value) for name, value in facts.items() if value])


def _aliases_of(state: AdapterState, version: VersionState) -> list[str]:
    return [
        name
        for name, alias in sorted(state.aliases.items())
        if any(target.version == version.version for target in alias.targets)
    ]


def _version_json(state: VersionState) -> dict[str, Any]:
    return {
        "version": str(state.version),
        "commit": state.version.commit,
        "manifest_sha256": state.version.manifest_sha256,
        "published": {
            "at": state.publication.at,
            "actor": state.publication.actor,
            "message": state.publication.message,
        },
        "manifest": json.loads(state.manifest.canonical()),
    }


def _pairs(aliases: Mapping[str, str]) -> str:
    return ", ".join(f"{name} -> {target}" for name, target in sorted(aliases.items()))


def _numbers(metrics: Mapping[str, float]) -> str:
    own = {name: value for name, value in metrics.items() if not name.startswith("base.")}
    shown = [f"{name} {value:.3g}" for name, value in sorted(own.items())]
    return ", ".join(shown[:NAMES_SHOWN]) + (", ..." if len(shown) > NAMES_SHOWN else "")
