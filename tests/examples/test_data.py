"""The example tenants' data: what the README's figures stand on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotshoe.train import forms
from hotshoe.train.audit import audit
from hotshoe.train.config import TrainConfig
from hotshoe.train.data import Example, read_rows

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGS = sorted(EXAMPLES.glob("*/train*.toml"))


def parts(config: TrainConfig) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    assert config.data.train is not None
    assert config.data.heldout is not None
    train, heldout = (
        read_rows(config.data.train, forms.example),
        read_rows(config.data.heldout, forms.example),
    )
    assert not train.faults
    assert not heldout.faults
    return train.good, heldout.good


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_there_are_enough_rows_and_none_in_both_parts(path: Path) -> None:
    train, heldout = parts(TrainConfig.read(path))
    assert len(train) >= 150
    assert len(heldout) >= 30
    assert not list(audit(train, heldout, ["<|im_end|>"]))


@pytest.mark.parametrize("version", ["", "-v2"])
@pytest.mark.parametrize("part", ["train", "heldout"])
def test_every_ticket_says_what_its_mail_says(part: str, version: str) -> None:
    rows = read_rows(EXAMPLES / "support" / f"{part}{version}.jsonl", forms.example).good
    for row in rows:
        ticket, mail = json.loads(row.answer), row.prompt[-1].content
        assert list(ticket) == ["category", "priority", "product", "order", *(["team"] if version else [])]
        assert ticket["category"] in ("account", "billing", "defect", "delivery", "question", "return")
        assert ticket["priority"] in ("low", "normal", "high")
        assert ticket["product"] is None or ticket["product"].lower() in mail.lower()
        assert ticket["order"] is None or ticket["order"] in mail


@pytest.mark.parametrize("part", ["train", "heldout"])
def test_every_clause_has_its_three_lines_and_a_party_that_it_names(part: str) -> None:
    for row in read_rows(EXAMPLES / "legal" / f"{part}.jsonl", forms.example).good:
        who, must, when = row.answer.splitlines()
        assert (who[:5], must[:6], when[:6]) == ("WHO: ", "MUST: ", "WHEN: ")
        party = (
            who.removeprefix("WHO: ")
            .removeprefix("the ")
            .removeprefix("both ")
            .removesuffix("ies")
            .removesuffix("y")
        )
        assert party.casefold() in row.prompt[-1].content.casefold()
