"""A server's settings from `serve.toml` and from flags, flags counting more.

    base = "org/model@revision"
    listen = "0.0.0.0:50051"
    tenants = "tenants.toml"            # paths are relative to this file
    metrics = "127.0.0.1:9090"

    [tls]
    certificate = "server.pem"
    key = "server.key"

Every key is a field of `hotshoe.serve.config.ServeConfig`, which says what it means.
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.serve.config import RESIDENT, SLOTS, ServeConfig
from hotshoe.serve.tls import TlsFiles


def read_settings(path: Path) -> dict[str, Any]:
    """What the file says, by field of ServeConfig; raise InvalidConfig that names the key at fault."""
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"the settings {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{path} is no TOML: {error}") from error
    try:
        return _typed(ServeConfig, document, path.parent, "")
    except InvalidConfig as error:
        raise InvalidConfig(f"{path}: {error.message}") from error


def make_config(given: Mapping[str, Any]) -> ServeConfig:
    """The configuration of these fields; everything else as ServeConfig has it."""
    if not given.get("base"):
        raise InvalidConfig('no base model is named: say --base FOLDER_OR_REPO, or base = "..." in the file')
    chosen = dict(given)
    if "slots" in given and "resident" not in given:
        chosen["resident"] = max(RESIDENT, chosen["slots"])
    if "resident" in given and "slots" not in given:
        chosen["slots"] = max(1, min(SLOTS, chosen["resident"]))
    return ServeConfig(**chosen)


def _typed(kind: type, table: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    for name in table:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
            raise InvalidConfig(f"there is no setting {where}{name}; {hint}")
    return {
        name: _value(f"{where}{name}", value, _kinds(hints[name]), folder) for name, value in table.items()
    }


def _value(name: str, value: object, kinds: tuple[type, ...], folder: Path) -> Any:
    if TlsFiles in kinds:
        if not isinstance(value, dict):
            raise InvalidConfig(f"{name} is {value!r}: write it as a table, [{name}]")
        try:
            return TlsFiles(**_typed(TlsFiles, value, folder, f"{name}."))
        except TypeError as error:
            raise InvalidConfig(f"{name} needs certificate and key: {error}") from error
    if Path in kinds and isinstance(value, str):
        return folder / Path(value).expanduser()
    if tuple in kinds:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise InvalidConfig(f'{name} is {value!r}: write a list of texts, ["..."]')
        return tuple(value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in kinds:
        wanted = " or ".join("text" if each in (str, Path) else each.__name__ for each in kinds)
        raise InvalidConfig(f"{name} is {value!r}: give {wanted}")
    return value


def _kinds(hint: object) -> tuple[type, ...]:
    """The types that a field takes, None left out."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (typing.get_origin(hint) or hint,)
    return tuple(each for each in parts if isinstance(each, type) and each is not types.NoneType)
