from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.adapter.errors import InvalidData
from hotshoe.train import forms
from hotshoe.train.data import Fault, Turn, raise_for_faults, read_rows


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "rows.jsonl"


def write(file: Path, *rows: Any) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    ("row", "turns", "templated"),
    [
        ({"input": "q", "output": "a"}, [("user", "q"), ("assistant", "a")], True),
        ({"instruction": "i", "output": "a"}, [("user", "i"), ("assistant", "a")], True),
        ({"instruction": "i", "input": "", "output": "a"}, [("user", "i"), ("assistant", "a")], True),
        ({"instruction": "i", "input": "q", "output": "a"}, [("user", "i\n\nq"), ("assistant", "a")], True),
        (
            {"system": "s", "input": "q", "output": "a", "id": 7},
            [("system", "s"), ("user", "q"), ("assistant", "a")],
            True,
        ),
        ({"prompt": "p", "completion": "c"}, [("user", "p"), ("assistant", "c")], False),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            [("user", "q"), ("assistant", "a")],
            True,
        ),
    ],
)
def test_every_form_becomes_turns(file: Path, row: Any, turns: Any, templated: bool) -> None:
    (example,) = read_rows(write(file, row), forms.example).good
    assert example.turns == tuple(Turn(*turn) for turn in turns)
    assert example.templated is templated
    assert example.where == "rows.jsonl:1"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([], "a row is a JSON object, this is a list"),
        ({}, "has no keys"),
        ({"input": "q"}, "output is missing"),
        ({"instrution": "i", "input": "q", "output": "a"}, "unknown key 'instrution' (did you mean"),
        ({"input": "q", "output": " "}, "output is empty"),
        ({"input": "q", "output": 4}, "output must be text, not a number"),
        ({"input": "q", "output": None}, "output must be text, not null"),
        ({"input": "", "output": "a"}, "the question is empty"),
        ({"input": "\ud800", "output": "a"}, "half a surrogate pair"),
        ({"output": "a"}, "the question is missing"),
        ({"messages": []}, "must be a list of turns"),
        ({"messages": [{"role": "user"}]}, "needs role and content"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "role 'bot'"),
        ({"messages": [{"role": "user", "content": "a"}]}, "must end with an assistant turn"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "must end with an assistant turn"),
    ],
)
def test_a_bad_row_is_a_fault_with_file_and_line(file: Path, row: Any, said: str) -> None:
    rows = read_rows(write(file, {"input": "q", "output": "a"}, row), forms.example)
    assert len(rows.good) == 1
    (fault,) = rows.faults
    assert fault.where == "rows.jsonl:2"
    assert said in fault.message


def test_all_faults_are_counted_and_the_first_ones_shown() -> None:
    with pytest.raises(InvalidData) as refused:
        raise_for_faults([Fault(f"rows.jsonl:{n}", "is empty") for n in range(1, 13)], total=13)
    assert "12 of 13 rows" in str(refused.value)
    assert "rows.jsonl:10: is empty" in str(refused.value)
    assert "and 2 more" in str(refused.value)


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf{"input": "q", "output": "a"}\r\n\r\n{"input": "r", "output": "b"}\r\n')
    rows = read_rows(file, forms.example)
    assert [example.where for example in rows.good] == ["rows.jsonl:1", "rows.jsonl:3"]
    assert not rows.faults


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    rows = read_rows(file, forms.example)
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(rows.good) + len(rows.faults) == len(lines)


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
_keys = st.sampled_from(
    ["instruction", "input", "output", "system", "prompt", "completion", "messages", "id"]
)


@given(st.dictionaries(_keys, _json, max_size=4))
def test_any_row_is_an_example_or_a_fault(file: Path, row: dict[str, Any]) -> None:
    rows = read_rows(write(file, row), forms.example)
    assert len(rows.good) + len(rows.faults) == 1
    for example in rows.good:
        assert example.turns[-1].role == "assistant"
        assert all(turn.content.strip() for turn in example.turns)


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_what_is_written_is_what_is_read(file: Path, question: str, answer: str) -> None:
    rows = read_rows(write(file, {"input": question, "output": answer}), forms.example)
    for example in rows.good:
        assert (example.prompt[0].content, example.answer) == (question, answer)
    assert rows.good or "surrogate" in rows.faults[0].message
