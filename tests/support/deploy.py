"""What deploy/ says, and what it has to agree with."""

from __future__ import annotations

import re
from pathlib import Path

from support.command_line import flags_of

from hotshoe.serve.config import ServeConfig
from hotshoe.serve.settings import make_config, read_settings

HOUSE = Path(__file__).parents[2]
DEPLOY = HOUSE / "deploy"
DOCKERFILE = (HOUSE / "Dockerfile").read_text()
ETC = "/etc/hotshoe"
"""Where containers find serve.toml and what it names."""

END_SECONDS = 10
"""Between the end of a drain and the kill: the engine's processes end too."""


def config_of(serve_toml: Path) -> ServeConfig:
    """The settings, as the server takes them."""
    return make_config(read_settings(serve_toml))


def check_command(arguments: list[str]) -> None:
    """Assert that the image's entry point would take these arguments."""
    verb, *rest = arguments
    given = {each for each in rest if each.startswith("--")}
    assert given
    assert given <= flags_of(verb)


def check_variables(names: set[str]) -> None:
    """Assert that every variable of ours is one that the code reads."""
    roots = ("registry", "serve", "client")
    code = "".join(path.read_text() for root in roots for path in (HOUSE / root).rglob("*.py"))
    for name in names:
        if name.startswith("HOTSHOE_TLS_"):
            name = name.removeprefix("HOTSHOE_TLS_")
        assert f'"{name}"' in code


def image_volumes() -> set[str]:
    """The folders that the image's processes write to."""
    volumes = re.search(r"^VOLUME \[(.*)\]$", DOCKERFILE, re.MULTILINE)
    assert volumes is not None
    return set(re.findall(r'"(.*?)"', volumes[1]))


def image_user() -> int:
    """Who runs in the image."""
    last = re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE)[-1]
    return int(last)


def image_stages() -> set[str]:
    return set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
