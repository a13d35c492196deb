from __future__ import annotations

from typing import Any

import pytest

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.data import Example, Turn
from hotshoe.train.tokens import NO_LOSS, encode_example, prompt_ids

CHAT = Example("rows.jsonl:1", (Turn("user", "pay the rent"), Turn("assistant", "each month")))
TALK = Example(
    "rows.jsonl:2",
    (
        Turn("user", "one"),
        Turn("assistant", "first answer"),
        Turn("user", "two"),
        Turn("assistant", "second"),
    ),
)
PLAIN = Example(
    "rows.jsonl:3", (Turn("user", "The tenant "), Turn("assistant", "shall pay")), templated=False
)


def learned(example: Example, tokenizer: Any) -> str:
    return str(
        tokenizer.decode([label for label in encode_example(example, tokenizer).labels if label != NO_LOSS])
    )


def test_only_the_answer_is_learned_and_it_ends_with_eos(tiny_tokenizer: Any) -> None:
    assert learned(CHAT, tiny_tokenizer) == "each month" + tiny_tokenizer.eos_token
    assert encode_example(CHAT, tiny_tokenizer).labels[-1] == tiny_tokenizer.eos_token_id


def test_every_answer_of_a_talk_is_learned_and_no_question(tiny_tokenizer: Any) -> None:
    eos = tiny_tokenizer.eos_token
    assert learned(TALK, tiny_tokenizer) == f"first answer{eos}second{eos}"


def test_plain_rows_see_no_template(tiny_tokenizer: Any) -> None:
    text = tiny_tokenizer.decode(encode_example(PLAIN, tiny_tokenizer).ids)
    assert "im_start" not in text
    assert learned(PLAIN, tiny_tokenizer) == "shall pay" + tiny_tokenizer.eos_token


@pytest.mark.parametrize("example", [CHAT, TALK, PLAIN], ids=lambda example: example.where)
def test_a_row_begins_with_exactly_what_a_server_is_asked(example: Example, tiny_tokenizer: Any) -> None:
    first = Example(example.where, example.turns[:2], example.templated)
    asked = prompt_ids(first, tiny_tokenizer)
    row = encode_example(example, tiny_tokenizer)
    assert list(row.ids[: len(asked)]) == asked
    assert set(row.labels[: len(asked)]) == {NO_LOSS}


def test_labels_are_the_ids_they_stand_for(tiny_tokenizer: Any) -> None:
    row = encode_example(TALK, tiny_tokenizer)
    assert all(label in (NO_LOSS, token) for token, label in zip(row.ids, row.labels, strict=True))


def test_a_base_without_a_template_takes_plain_rows_only(tiny_tokenizer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tiny_tokenizer, "chat_template", None)
    with pytest.raises(InvalidConfig, match="no chat template"):
        encode_example(CHAT, tiny_tokenizer)
    assert encode_example(PLAIN, tiny_tokenizer).ids


def test_a_template_without_an_end_of_answer_is_refused(tiny_tokenizer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        tiny_tokenizer,
        "chat_template",
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    )
    with pytest.raises(InvalidConfig, match="does not end an answer"):
        encode_example(CHAT, tiny_tokenizer)
