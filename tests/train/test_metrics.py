from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.train.metrics import METRICS

TICKET = '{"category": "billing", "order": null}'
CLAUSE = "WHO: the tenant\nMUST: pay the rent\nWHEN: each month"


@pytest.mark.parametrize(
    ("metric", "answer", "expected", "score"),
    [
        ("exact", " yes\n", "yes", 1),
        ("exact", "Yes", "yes", 0),
        ("f1", "The cat sat", "a cat sat.", 1),
        ("f1", "cat", "cat sat", 2 / 3),
        ("f1", "", "", 1),
        ("f1", "", "cat", 0),
        ("rouge_l", "sat cat", "cat sat", 0.5),
        ("rouge_l", "the cat sat here", "cat sat here", 1),
        ("json", '{"order": 1, "category": 2}', TICKET, 1),
        ("json", '{"order": 1}', TICKET, 0),
        ("json", TICKET + " ok", TICKET, 0),
        ("json", "[" * 100_000, TICKET, 0),
        ("fields", '{"category": "Billing", "order": null}', TICKET, 1),
        ("fields", '{"category": "billing", "order": "null"}', TICKET, 0.5),
        ("fields", '{"category": "billing", "order": null, "x": 1, "y": 2}', TICKET, 0.5),
        ("fields", "billing", TICKET, 0),
        ("fields", "WHO: The Tenant\nMUST: pay", CLAUSE, 1 / 3),
        ("form", "WHO: a\nMUST: b\nWHEN: c\n", CLAUSE, 1),
        ("form", "WHO: a\nWHEN: c\nMUST: b", CLAUSE, 0),
        ("form", "WHO: a\nMUST:\nWHEN: c", CLAUSE, 0),
        ("form", "Sure!\nWHO: a\nMUST: b\nWHEN: c", CLAUSE, 0),
    ],
)
def test_an_answer_gets_the_score_it_deserves(metric: str, answer: str, expected: str, score: float) -> None:
    assert METRICS[metric](answer, expected) == pytest.approx(score)


@pytest.mark.parametrize("metric", METRICS)
@given(answer=st.text(), expected=st.text())
def test_any_two_texts_score_between_0_and_1(metric: str, answer: str, expected: str) -> None:
    assert 0 <= METRICS[metric](answer, expected) <= 1


@pytest.mark.parametrize("metric", ["exact", "f1", "rouge_l", "fields"])
@given(text=st.text())
def test_the_expected_answer_itself_scores_1(metric: str, text: str) -> None:
    assert METRICS[metric](text, text) == pytest.approx(1)
