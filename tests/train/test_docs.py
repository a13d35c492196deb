from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from hotshoe.train.config import TrainConfig
from hotshoe.train.metrics import METRICS

GUIDE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{name}.")
        else:
            yield f"`{prefix}{field.alias or name}`"


def test_the_guide_explains_every_key_of_the_config() -> None:
    assert [key for key in keys(TrainConfig) if key not in GUIDE] == []


def test_the_guide_names_every_metric() -> None:
    assert [name for name in METRICS if f"`{name}`" not in GUIDE] == []
