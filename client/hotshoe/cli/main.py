"""The `hotshoe` command. Every verb imports what it needs when it runs, so that help comes at once."""

from __future__ import annotations

import typer

from hotshoe.cli import queries, serving, training, versions

app = typer.Typer(
    name="hotshoe",
    help="One frozen base model, many tenants' LoRA adapters, swapped per request.",
    epilog="Adapters are named org/name\\[@selector]; the selector is v7, an alias such as prod, or a commit. "
    "Exit codes: 0 done, 1 refused or failed, 2 wrong use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(rich_help_panel="Make versions")(training.train)
app.command(rich_help_panel="Make versions")(versions.publish)
app.command(rich_help_panel="Move aliases")(versions.promote)
app.command(rich_help_panel="Move aliases")(versions.rollback)
app.command("list", rich_help_panel="Look")(queries.list_adapters)
app.command(rich_help_panel="Look")(queries.show)
app.command(rich_help_panel="Look")(queries.history)
app.command(rich_help_panel="Serve")(serving.serve)
app.command(rich_help_panel="Serve")(serving.generate)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
