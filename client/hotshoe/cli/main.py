"""The `hotshoe` command: every verb, by the function that does it."""

from __future__ import annotations

import typer

from hotshoe.cli.help import SectionedGroup

VERBS: dict[str, dict[str, str]] = {
    "Make versions": {
        "train": "training:train",
        "publish": "versions:publish",
        "import": "versions:import_foreign",
        "inspect": "inspecting:inspect",
    },
    "Move aliases": {
        "promote": "versions:promote",
        "rollback": "versions:rollback",
        "unset": "versions:unset",
    },
    "Look": {
        "list": "queries:list_adapters",
        "show": "queries:show",
        "history": "queries:history",
        "diff": "queries:diff",
        "report": "reporting:report",
    },
    "Serve": {
        "serve": "server:serve",
        "generate": "serving:generate",
        "tenant-key": "tenants:tenant_key",
        "usage": "usage:usage",
    },
    "Operate a server": {
        "status": "operating:status",
        "resident": "operating:resident",
        "warm": "operating:warm",
        "pin": "operating:pin",
        "unpin": "operating:unpin",
        "evict": "operating:evict",
        "watch": "operating:watch",
        "drain": "operating:drain",
        "resume": "operating:resume",
        "top": "measuring:top",
        "bench": "measuring:bench",
    },
    "Look after": {
        "verify": "upkeep:verify",
        "gc": "upkeep:gc",
        "mirror": "upkeep:mirror",
        "keygen": "keys:keygen",
    },
}
"""Section of the help -> verb -> module of this package and function in it."""


class Verbs(SectionedGroup):
    """All of them."""

    sections = VERBS


app = typer.Typer(
    name="hotshoe",
    cls=Verbs,
    rich_markup_mode=None,
    help="One frozen base model, many tenants' LoRA adapters, swapped per request.",
    epilog="Adapters are named org/name[@selector]; the selector is v7, an alias such as prod, or a "
    "commit. Exit codes: 0 done, 1 refused or failed, 2 wrong use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    callback=lambda: None,  # Makes it a group, whose commands are the class's affair.
)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
