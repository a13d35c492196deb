from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotshoe.adapter.errors import InvalidData
from hotshoe.train.prepare import Prepared, prepare
from hotshoe.train.recipes import EXAMPLES
from hotshoe.train.sections import DataConfig

GOOD = {"input": "pay the rent", "output": "each month"}
LONG = {"input": "the tenant " * 40, "output": "pays"}
EMPTY = {"input": "what is due", "output": ""}


def prepared(folder: Path, tokenizer: Any, *rows: Any, **options: Any) -> Prepared[Any]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig(train=folder / "rows.jsonl", max_tokens=60)
    return prepare(data, EXAMPLES, tokenizer, context=512, answer_tokens=4, **options)


def test_rows_too_long_are_named_beside_malformed_ones_and_none_is_cut(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    with pytest.raises(InvalidData) as refused:
        prepared(tmp_path, tiny_tokenizer, GOOD, LONG, EMPTY)
    assert "2 of 3 rows" in str(refused.value)
    assert "rows.jsonl:2: " in str(refused.value)
    assert "tokens, over the limit of 60" in str(refused.value)
    assert "rows.jsonl:3: output is empty" in str(refused.value)


def test_skipped_rows_are_written_beside_with_their_faults(tmp_path: Path, tiny_tokenizer: Any) -> None:
    data = prepared(tmp_path, tiny_tokenizer, EMPTY, GOOD, LONG, skip_bad=True)
    assert [row.where for row in data.train.rows] == ["rows.jsonl:2"]
    assert data.facts()["train"]["skipped"] == 2
    rejects = [json.loads(line) for line in (tmp_path / "rows.rejects.jsonl").read_text().splitlines()]
    assert [(reject["where"], reject["row"]) for reject in rejects] == [
        ("rows.jsonl:1", EMPTY),
        ("rows.jsonl:3", LONG),
    ]


def test_a_line_that_is_no_json_is_kept_as_it_stands(tmp_path: Path, tiny_tokenizer: Any) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD) + '\n{"input": "half a\n')
    data = DataConfig(train=tmp_path / "rows.jsonl")
    prepare(data, EXAMPLES, tiny_tokenizer, context=512, answer_tokens=4, skip_bad=True)
    (reject,) = (json.loads(line) for line in (tmp_path / "rows.rejects.jsonl").read_text().splitlines())
    assert (reject["where"], reject["row"]) == ("rows.jsonl:2", '{"input": "half a')


def test_rows_that_are_all_bad_are_never_an_empty_data_set(tmp_path: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(InvalidData, match="no rows to use"):
        prepared(tmp_path, tiny_tokenizer, EMPTY, LONG, skip_bad=True)


def test_expected_answers_that_the_exam_would_cut_are_told(tmp_path: Path, tiny_tokenizer: Any) -> None:
    asked = [
        {"input": f"what is due {n}", "output": answer} for n, answer in enumerate(("rent", "rent " * 9))
    ]
    (tmp_path / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (tmp_path / "train.jsonl").write_text(json.dumps(GOOD))
    data = DataConfig(train=tmp_path / "train.jsonl", heldout=tmp_path / "heldout.jsonl")
    (note,) = prepare(data, EXAMPLES, tiny_tokenizer, context=512, answer_tokens=8).notes
    assert (note.code, note.where) == ("CUT_IN_EXAM", "heldout.jsonl:2")


def test_notes_come_with_the_rows(tmp_path: Path, tiny_tokenizer: Any) -> None:
    data = prepared(tmp_path, tiny_tokenizer, GOOD, GOOD)
    assert [note.code for note in data.notes] == ["DUPLICATE"]
