"""The `hotshoe` command: every verb, the function that does it, and what the help says of it."""

from __future__ import annotations

import typer

from hotshoe.cli.help import SectionedGroup, Sections

VERBS: Sections = {
    "Make versions": {
        "train": ("training:train", "Train an adapter, measured against the base; publish it."),
        "publish": ("versions:publish", "Publish a folder as the next version of an adapter."),
        "import": ("versions:import_foreign", "Import an adapter that was not made by Hotshoe."),
        "inspect": ("inspecting:inspect", "Say what a server would refuse of an adapter."),
    },
    "Move aliases": {
        "promote": ("versions:promote", "Point an alias at a version, or split it by weight."),
        "rollback": ("versions:rollback", "Point an alias back at what it pointed to before."),
        "unset": ("versions:unset", "Make an alias point nowhere; its history stays."),
    },
    "Look": {
        "list": ("queries:list_adapters", "List adapters with their newest version and aliases."),
        "show": ("queries:show", "Show an adapter, or everything about one version."),
        "history": ("queries:history", "Show who moved which alias, when and why."),
        "diff": ("queries:diff", "Show what differs between two versions."),
        "report": ("reporting:report", "Show what a version's training measured."),
    },
    "Serve": {
        "serve": ("server:serve", "Serve the base and every adapter of the registry."),
        "generate": ("serving:generate", "Stream an answer to the terminal."),
        "tenant-key": ("tenants:tenant_key", "Make an API key for a tenant, and its hash."),
        "usage": ("usage:usage", "Sum requests and tokens by tenant and adapter."),
    },
    "Operate a server": {
        "status": ("operating:status", "Show how a server is."),
        "resident": ("operating:resident", "List the adapters that a server holds in memory."),
        "warm": ("operating:warm", "Load an adapter before anybody asks for it."),
        "pin": ("operating:pin", "Load a version and keep it until it is unpinned."),
        "unpin": ("operating:unpin", "Let a pinned version go when its place is needed."),
        "evict": ("operating:evict", "Unload a version that no request uses."),
        "watch": ("operating:watch", "Tell what happens to a server's adapters."),
        "drain": ("operating:drain", "Take a server out of service until `resume`."),
        "resume": ("operating:resume", "Take a drained server into service again."),
        "top": ("measuring:top", "Watch a server live."),
        "bench": ("measuring:bench", "Send load to a server; print what callers feel."),
    },
    "Look after": {
        "verify": ("upkeep:verify", "Prove that the registry is as it was written."),
        "gc": ("upkeep:gc", "Let old versions go."),
        "mirror": ("upkeep:mirror", "Copy adapters to another registry."),
        "keygen": ("keys:keygen", "Make an Ed25519 key to sign versions with."),
    },
}
"""What there is to do."""


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
