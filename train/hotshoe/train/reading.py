"""Reading a config file, and saying what is wrong with one in the words of the file."""

from __future__ import annotations

import difflib
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hotshoe.adapter.errors import InvalidConfig

MAX_BYTES = 1 << 20
"""No config is longer; a pipe or a device would never end."""

_MAX_WORD, _MAX_FAULTS = 80, 40

UNSERVED = {
    "dora": "DoRA",
    "use_dora": "DoRA",
    "bias": "trained biases",
    "lora_bias": "biases in adapters",
    "modules_to_save": "whole modules in adapters",
    "trainable_token_indices": "trained tokens",
    "layer_replication": "replicated layers",
}
"""Keys that peft knows and no adapter here may have: why, in words (vllm/lora/peft_helper.py)."""


def read_toml(path: Path, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The file's tables with dotted keys set over them; raise InvalidConfig where it is no TOML.

    overrides: values in TOML's notation; text that is no TOML value counts as a string.
    """
    try:
        raw = tomllib.loads(_text(path))
    except FileNotFoundError:
        raise InvalidConfig(f"there is no config file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path} is not readable: {error}") from error
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits are a ValueError, tables in thousands of tables a RecursionError.
        raise InvalidConfig(f"{path} is not TOML: {error}") from error
    for key, value in overrides.items():
        _put(raw, key, value)
    return raw


def _text(path: Path) -> str:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no file")
    if found.st_size > MAX_BYTES:
        raise OSError(f"it has {found.st_size:,} bytes, over {MAX_BYTES:,}")
    return path.read_text(encoding="utf-8")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Every fault on a line of its own, as far as anybody reads."""
    faults = error.errors()
    lines = [f"  {_fault(model, fault)}" for fault in faults[:_MAX_FAULTS]]
    return "\n".join(
        [*lines, *([f"  and {len(faults) - len(lines)} more"] if len(faults) > len(lines) else [])]
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for a word close to a known one, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1) if len(word) <= _MAX_WORD else []
    return f" (did you mean {close[0]!r}?)" if close else ""


def _put(raw: dict[str, Any], dotted: str, value: str) -> None:
    *tables, key = dotted.split(".")
    for table in tables:
        raw = raw.setdefault(table, {})
        if not isinstance(raw, dict):
            raise InvalidConfig(f"{dotted} cannot be set: {table} is a value, not a table")
    try:
        raw[key] = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        raw[key] = value


def _fault(model: type[BaseModel], fault: Mapping[str, Any]) -> str:
    """One line for one wrong key, in the words of the file."""
    location = ".".join(str(part) for part in fault["loc"] if part != "function-after")
    if fault["type"] == "extra_forbidden":
        *tables, key = fault["loc"]
        if key in UNSERVED:
            return f"{location}: vLLM serves no {UNSERVED[key]}"
        return f"{location}: unknown key{nearest(str(key), _keys_at(model, tables))}"
    if fault["type"] == "missing":
        return f"{location}: missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{location}: {message}" if location else message


def _keys_at(model: type[BaseModel], tables: list[Any]) -> dict[str, object]:
    for table in tables:
        annotation = model.model_fields[table].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return {}
        model = annotation
    return {field.alias or name: field for name, field in model.model_fields.items()}
