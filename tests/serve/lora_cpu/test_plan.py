"""The plan of a step, in tables."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.serve.lora_cpu.plan import LONG_RUN, NOTHING, Run, make_plan

SLOT_OF = {101: 0, 102: 1, 103: 2}
LONG = LONG_RUN


@pytest.mark.parametrize("ids", [(), (0,), (0, 0, 0)])
def test_rows_without_an_adapter_are_in_no_plan(ids: Sequence[int]) -> None:
    assert make_plan(ids, SLOT_OF) is NOTHING


def test_rows_of_one_slot_stand_together_wherever_they_were() -> None:
    plan = make_plan((101, 0, 102, 101, 0, 102, 103), SLOT_OF)

    assert plan.long == ()
    assert plan.scattered is not None
    assert plan.scattered.slots.tolist() == [0, 1, 2]
    assert plan.scattered.rows.tolist() == [0, 3, 2, 5, 6]
    assert plan.scattered.starts.tolist() == [0, 2, 4, 5]


def test_long_runs_go_their_own_way() -> None:
    plan = make_plan((0, *[101] * LONG, 102, *[101] * (LONG - 1)), SLOT_OF)

    assert plan.long == (Run(0, 1, LONG + 1),)
    assert plan.scattered is not None
    assert plan.scattered.rows.tolist() == [*range(LONG + 2, 2 * LONG + 1), LONG + 1]


def test_a_row_whose_adapter_has_no_slot_is_an_error_and_never_the_base() -> None:
    with pytest.raises(KeyError):
        make_plan((101, 999), SLOT_OF)


@given(st.lists(st.sampled_from([0, 101, 102, 103]), max_size=80))
def test_every_row_with_an_adapter_is_planned_once_with_its_own_slot(ids: list[int]) -> None:
    plan = make_plan(ids, SLOT_OF)
    planned = [(row, run.slot) for run in plan.long for row in range(run.start, run.stop)]
    if plan.scattered:
        edges = plan.scattered.starts.tolist()
        for slot, left, right in zip(plan.scattered.slots.tolist(), edges, edges[1:], strict=False):
            planned += [(row, slot) for row in plan.scattered.rows[left:right].tolist()]

    assert sorted(planned) == [(row, SLOT_OF[i]) for row, i in enumerate(ids) if i]
    assert [row for run in plan.runs for row in range(run.start, run.stop)] == [
        row for row, i in enumerate(ids) if i
    ]
