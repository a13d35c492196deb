"""Verbs that read the registry: list, show, history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.cli.verb import JsonOption, RegistryOption, print_json, print_table, printable, verb
from hotshoe.cli.versions import move_json

if TYPE_CHECKING:
    from hotshoe.registry import AdapterState, VersionState

NAMES_SHOWN = 4


@verb
def list_adapters(
    org: Annotated[str, typer.Option("--org", help="Only adapters of this org.")] = "",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List adapters with their newest version, aliases and metrics."""
    from hotshoe.registry import open_registry

    with open_registry(registry) as opened:
        found = [each for each in opened.adapters() if not org or each.adapter.org == org]
        place = opened.url
    if as_json:
        print_json(
            [
                {
                    "adapter": str(each.adapter),
                    "latest": f"v{each.latest}",
                    "versions": each.versions,
                    "aliases": each.aliases,
                    "base": each.base,
                    "metrics": each.metrics,
                }
                for each in found
            ]
        )
    elif not found:
        typer.echo(f"no adapters in {place}: `hotshoe publish FOLDER --as org/name` makes one")
    else:
        print_table(
            f"{len(found)} adapters in {place}",
            ("adapter", "latest", "aliases", "base", "metrics"),
            (
                (
                    str(each.adapter),
                    f"v{each.latest}",
                    _pairs(each.aliases),
                    each.base,
                    _numbers(each.metrics),
                )
                for each in found
            ),
        )


@verb
def show(
    ref: Annotated[str, typer.Argument(metavar="ORG/NAME[@SELECTOR]", help="An adapter, or one version.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an adapter's versions and aliases, or everything about one version."""
    from hotshoe.registry import open_registry

    parsed = AdapterRef.parse(ref)
    with open_registry(registry) as opened:
        state = opened.show(parsed.adapter)
        chosen = opened.resolve(parsed) if parsed.selector else None
    if chosen is None:
        _show_adapter(state, as_json=as_json)
    else:
        _show_version(next(each for each in state.versions if each.version == chosen), as_json=as_json)


@verb
def history(
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The adapter.")],
    alias: Annotated[str | None, typer.Option("--alias", help="Only the moves of this alias.")] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who moved which alias, when, why, from where to where; the newest last."""
    from hotshoe.registry import open_registry

    with open_registry(registry) as opened:
        moves = [move_json(move) for move in opened.history(AdapterName.parse(name), alias)]
    if as_json:
        print_json(moves)
        return
    print_table(
        f"{len(moves)} moves of {name}",
        ("when", "alias", "from", "to", "who", "why"),
        (
            (
                f"{move['at']:%Y-%m-%d %H:%M:%SZ}",
                move["alias"],
                move["from"],
                move["to"],
                move["actor"],
                move["reason"],
            )
            for move in moves
        ),
    )


def _show_adapter(state: AdapterState, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "adapter": str(state.adapter),
                "aliases": {
                    name: {"version": each.version.tag, "etag": each.etag, "at": each.move.at}
                    for name, each in state.aliases.items()
                },
                "versions": [_version_json(each) for each in state.versions],
            }
        )
        return
    pointing = {each.version.number: name for name, each in state.aliases.items()}
    print_table(
        str(state.adapter),
        ("version", "alias", "published", "by", "base", "rank", "metrics", "message"),
        (
            (
                each.version.tag,
                pointing.get(each.version.number, ""),
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
        typer.echo(f"{name} -> {alias.version.tag}  etag {alias.etag}  {printable(alias.move.reason)}")


def _show_version(state: VersionState, *, as_json: bool) -> None:
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


def _version_json(state: VersionState) -> dict[str, Any]:
    import json

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


def _pairs(aliases: Any) -> str:
    return ", ".join(f"{name} -> {target}" for name, target in sorted(aliases.items()))


def _numbers(metrics: Any) -> str:
    shown = [f"{name} {value:.3g}" for name, value in sorted(metrics.items())]
    return ", ".join(shown[:NAMES_SHOWN]) + (", ..." if len(shown) > NAMES_SHOWN else "")
