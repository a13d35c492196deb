from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotshoe.train.joined import join, joined_loss, keeps_apart
from hotshoe.train.machine import Machine
from hotshoe.train.model import load_base
from hotshoe.train.quiet import quiet
from hotshoe.train.tokens import NO_LOSS

ROWS = [
    {"input_ids": [7, 8, 9, 10, 11], "labels": [NO_LOSS, NO_LOSS, 9, 10, 11]},
    {"input_ids": [20, 21, 22], "labels": [NO_LOSS, 21, 22]},
    {"input_ids": [30, 31, 32, 33], "labels": [NO_LOSS, NO_LOSS, NO_LOSS, 33]},
]


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    with quiet():
        return load_base(tiny_base, Machine("cpu", "float32", 1)).eval()


def alone(model: Any, row: dict[str, list[int]]) -> Any:
    """The summed loss of one row by itself."""
    import torch

    logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(
        logits, torch.tensor(row["labels"][1:]), ignore_index=NO_LOSS, reduction="sum"
    )


def test_the_loss_of_joined_rows_is_that_of_each_alone(model: Any) -> None:
    together = joined_loss(model, join(ROWS), None)
    apart = sum(alone(model, row) for row in ROWS) / 6
    assert float(together) == pytest.approx(float(apart), rel=1e-5)


@pytest.mark.parametrize(
    ("at_once", "passes"),
    [(None, [12]), (12, [12]), (8, [8, 4]), (7, [5, 7]), (4, [5, 3, 4]), (1, [5, 3, 4])],
)
def test_rows_go_through_in_parts_and_none_is_torn(
    model: Any, at_once: int | None, passes: list[int]
) -> None:
    seen: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    loss = joined_loss(model, join(ROWS), None, at_once=at_once)
    hook.remove()
    assert seen == passes
    assert float(loss) == pytest.approx(float(sum(alone(model, row) for row in ROWS)) / 6, rel=1e-5)


def test_what_nothing_is_learned_from_is_not_read(model: Any) -> None:
    silent = {"input_ids": [40, 41], "labels": [NO_LOSS, NO_LOSS]}
    seen: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    joined_loss(model, join([silent, ROWS[1]]), None, at_once=1)
    assert float(joined_loss(model, join([silent]), None)) == 0
    hook.remove()
    assert seen == [3, 2]


def test_a_given_total_is_what_the_loss_is_divided_by(model: Any) -> None:
    batch = join(ROWS)
    assert float(joined_loss(model, batch, 12)) == pytest.approx(float(joined_loss(model, batch, None)) / 2)


def test_positions_begin_again_with_every_row_and_inside_a_block() -> None:
    block = {"input_ids": [1, 2, 3, 4], "labels": [1, 2, NO_LOSS, 4], "position_ids": [0, 1, 0, 1]}
    batch = join([ROWS[1], block])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["labels"].tolist() == [[NO_LOSS, 21, 22, NO_LOSS, 2, NO_LOSS, 4]]


def test_a_model_that_lets_rows_see_each_other_is_found_out(model: Any) -> None:
    assert keeps_apart(model)

    class Leaky:
        """Forgets the positions, as an architecture without them would."""

        training = False
        device = model.device

        def train(self, _: bool) -> None: ...
        def eval(self) -> None: ...

        def __call__(self, **inputs: Any) -> Any:
            inputs.pop("position_ids", None)
            return model(**inputs)

    assert not keeps_apart(Leaky())


def test_a_model_that_takes_no_positions_is_found_out(model: Any) -> None:
    class Old:
        training = False
        device = model.device

        def train(self, _: bool) -> None: ...
        def eval(self) -> None: ...

        def __call__(self, *, input_ids: Any, use_cache: bool) -> Any:
            raise AssertionError("is not asked")

    assert not keeps_apart(Old())
