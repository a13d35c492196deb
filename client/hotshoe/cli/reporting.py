"""The verb that shows what a version's training run said of itself."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hotshoe.cli.verb import JsonOption, RegistryOption, print_json, print_table, printable, verb

_ORDER = ("base", "parent", "full", "adapter")


@verb
def report(
    ref: Annotated[str, typer.Argument(metavar="ORG/NAME[@SELECTOR]", help="Which version.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the whole page there, as HTML.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Show the whole page in the browser.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a version's figures and gates as its training measured them, or the run's whole page."""
    from hotshoe.adapter.errors import NotFound
    from hotshoe.adapter.reference import AdapterRef
    from hotshoe.registry import open_registry
    from hotshoe.registry.inspect import REPORT_FILE
    from hotshoe.train.facts import figures
    from hotshoe.train.page import guarded

    with open_registry(registry) as opened:
        version = opened.version(AdapterRef.parse(ref))
        manifest = opened.manifest(version)
        if out or open_page:
            if REPORT_FILE not in {entry.path for entry in manifest.files}:
                raise NotFound(f"{version} holds no report: `hotshoe train` writes one into what it makes")
            with opened.fetched(version) as folder:
                stored = (folder / REPORT_FILE).read_bytes()
            page = out or Path(f"{version.adapter.name}-v{version.number}.html")
            # Whoever published it, it may not run anything here.
            page.write_bytes(guarded(stored))
            typer.echo(str(page))
            if open_page:
                webbrowser.open(page.resolve().as_uri())
            return
    gates = manifest.training.get("gates", ())
    if as_json:
        print_json({"version": str(version), "figures": figures(manifest.metrics), "gates": gates})
        return
    print_figures(f"{version}, held-out rows", figures(manifest.metrics), None)
    print_gates(gate for gate in gates if isinstance(gate, Mapping))
    typer.echo(f"the whole page: hotshoe report {ref} --open")


def print_figures(title: str, figures: Mapping[str, Mapping[str, float]], main: str | None) -> None:
    """A table of base beside adapter beside whoever else was measured; nothing where there are no figures."""
    adapter = figures.get("adapter", {})
    who = [name for name in _ORDER if figures.get(name)]
    rows = (
        [f"{name} *" if name == main else name, *(_number(figures[each].get(name)) for each in who)]
        for name in adapter
    )
    if adapter:
        print_table(title, ("figure", *who), rows)


def print_gates(gates: Iterable[Mapping[str, Any]]) -> None:
    """A line for each, as it stands in a manifest."""
    for gate in gates:
        value = gate.get("value")
        told = f"is {value:.4g}" if isinstance(value, float | int) else "was not measured"
        name = printable(str(gate.get("gate")))
        typer.echo(f"gate {'passed' if gate.get('passed') is True else 'FAILED'}: {name} ({told})")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
