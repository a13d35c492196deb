"""Verbs that read the registry: list, show, history, diff."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hotshoe.adapter.errors import InvalidRequest, VersionNotFound
from hotshoe.adapter.reference import DEFAULT_ALIAS, AdapterName, AdapterRef
from hotshoe.cli.showing import move_json, print_summaries, show_adapter, show_version, summary_json
from hotshoe.cli.verb import JsonOption, RegistryOption, print_json, print_table, verb


@verb
def list_adapters(
    org: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Only adapters of this org.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="NAME", help="Only of this base; a part of its name.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="WORD", help="Only those with this tag.")
    ] = None,
    alias: Annotated[
        str | None, typer.Option("--alias", metavar="ALIAS", help="Only those with this alias.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="TEST", help="Only those whose newest version has it, as exact>=0.9."
        ),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List adapters with their newest version, aliases and metrics."""
    from hotshoe.registry import open_registry
    from hotshoe.registry.search import MetricTest, Query

    query = Query(org, base, tag, alias, MetricTest.parse(metric) if metric else None)
    with open_registry(registry) as opened:
        found = opened.adapters(query)
        place = opened.url
    if as_json:
        print_json([summary_json(each) for each in found])
    elif not found:
        asked = " that match" if query != Query() else ""
        typer.echo(f"no adapters{asked} in {place}: `hotshoe publish FOLDER --as org/name` makes one")
    else:
        print_summaries(f"adapters in {place}: {len(found)}", found)


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
        chosen = opened.version(parsed) if parsed.selector else None
    if chosen is None:
        show_adapter(state, as_json=as_json)
    else:
        found = next((each for each in state.versions if each.version == chosen), None)
        if found is None:
            raise VersionNotFound(f"{chosen} was let go: `hotshoe show {parsed.adapter}` lists what there is")
        show_version(found, as_json=as_json)


@verb
def history(
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The adapter.")],
    alias: Annotated[
        str | None, typer.Option("--alias", metavar="ALIAS", help="Only the moves of this alias.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="Where the alias (prod if none is named) pointed then: 2026-11-05 or 2026-11-05T09:30, UTC "
            "unless a zone is given.",
        ),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who moved which alias, when, why, from where to where; the newest last."""
    from hotshoe.registry import open_registry

    adapter = AdapterName.parse(name)
    when = _time(at) if at else None
    with open_registry(registry) as opened:
        if when is None:
            found = opened.history(adapter, alias)
        else:
            found = [opened.at(adapter, alias or DEFAULT_ALIAS, when)]
    moves = [move_json(move) for move in found]
    if as_json:
        print_json(moves[0] if when else moves)
        return
    print_table(
        f"{name}@{alias or DEFAULT_ALIAS} at {when:%Y-%m-%d %H:%M%z}"
        if when
        else f"moves of {name}: {len(moves)}",
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


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{text[:40]!r} is no time: write it like 2026-11-05, 2026-11-05T09:30 or 2026-11-05T09:30+01:00"
        ) from error


@verb
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A version, for example acme/support@v3.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another, or an alias: acme/support@prod.")],
    modules: Annotated[
        int, typer.Option("--modules", metavar="N", help="How many of the most moved modules to show.")
    ] = 10,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two versions. Config, data, metrics, and how far each module moved."""
    from hotshoe.registry import open_registry
    from hotshoe.registry.diff import diff as compare

    with open_registry(registry) as opened:
        one, two = (opened.version(AdapterRef.parse(ref)) for ref in (before, after))
        with opened.fetched(one) as first, opened.fetched(two) as second:
            found = compare((opened.manifest(one), first), (opened.manifest(two), second))
    if as_json:
        print_json({"before": str(one), "after": str(two), "same": found.same, **_fields(found)})
        return
    if found.same:
        typer.echo(f"{one} and {two} are the same")
        return
    parts = ("facts", "config", "training", "metrics", "files")
    print_table(
        f"{one} -> {two}",
        ("what", "before", "after"),
        (
            (f"{part}.{change.name}", _side(change.before), _side(change.after))
            for part in parts
            for change in getattr(found, part)
        ),
    )
    print_table(
        "weights: Frobenius norm of each module's update",
        ("module", "before", "after", "distance"),
        (
            (each.module, f"{each.before:.4g}", f"{each.after:.4g}", f"{each.change:.4g}")
            for each in found.modules[:modules]
        ),
    )


def _fields(value: Any) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}


def _side(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
