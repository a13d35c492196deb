"""The kinds of values that a training config holds: each checked where it is read, and shown without a path.

Relative paths are taken from the folder of the config file, which stands in pydantic's context as `folder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationInfo

from hotshoe.train.sources import check_hub, is_hub

_MAX_SHOWN = 200


class Section(BaseModel):
    """A table of the file: frozen, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def rooted(name: str, info: ValidationInfo) -> Path:
    """A path as the file means it."""
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / name


def _existing(value: Any, info: ValidationInfo) -> Path:
    path = rooted(str(value), info)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no file {str(path)[:_MAX_SHOWN]} ({_why(error)})") from None
    return path


def _why(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)


def _file(value: Any, info: ValidationInfo) -> Path:
    path = _existing(value, info)
    if not path.is_file():
        # A pipe would be waited for.
        raise ValueError(f"{path} is no file")
    return path


def _place(value: Any, info: ValidationInfo) -> Path | str:
    return check_hub(value) if isinstance(value, str) and is_hub(value) else _existing(value, info)


def _function(value: Any, info: ValidationInfo) -> str:
    file, _, name = str(value).rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ValueError(f"{value!r} must be FILE.py:NAME")
    return f"{_file(file, info)}:{name}"


def _shown(value: Path | str) -> str:
    return value.name if isinstance(value, Path) else value


def _function_shown(value: str) -> str:
    file, _, name = value.rpartition(":")
    return f"{Path(file).name}:{name}"


File = Annotated[Path, BeforeValidator(_file), PlainSerializer(_shown, when_used="json")]
"""A file that is there."""

Place = Annotated[Path | str, BeforeValidator(_place), PlainSerializer(_shown, when_used="json")]
"""Where rows are: a path, or text for a data set on the Hub."""

Function = Annotated[str, BeforeValidator(_function), PlainSerializer(_function_shown, when_used="json")]
"""A Python function: FILE.py:NAME."""
