"""Whatever the bytes, the answer is findings: never another exception, never a hang."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.lora import BASE_CONFIG, CONFIG, encode, tensors, with_header, write_adapter

from hotshoe.registry.inspect import inspect
from hotshoe.registry.inspect.config import _KNOWN_OPTIONS

EXAMPLES = 150

SOUND = encode(tensors(targets=("q_proj",)))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
configs = st.dictionaries(st.sampled_from(sorted(_KNOWN_OPTIONS)), json_values, max_size=6)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "?"]),
        "shape": st.lists(st.integers(-1, 5), max_size=3),
        "data_offsets": st.lists(st.integers(-1, 64), min_size=1, max_size=3),
    }
)
names = (
    st.sampled_from([*tensors(), "x.lora_A.weight", "base_model.model.x.lora_embedding_B", ""]) | st.text()
)


def judge(config: bytes, weights: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = write_adapter(Path(place))
        (folder / "adapter_config.json").write_bytes(config)
        (folder / "adapter_model.safetensors").write_bytes(weights)
        for finding in inspect(folder, BASE_CONFIG).findings:
            assert finding.code
            assert finding.subject.isprintable()
            assert finding.next_step


@settings(deadline=None, max_examples=EXAMPLES)
@given(config=st.binary(max_size=200), weights=st.binary(max_size=200))
def test_any_bytes_at_all(config: bytes, weights: bytes) -> None:
    judge(config, weights)


@settings(deadline=None, max_examples=EXAMPLES)
@given(config=configs)
def test_any_values_of_known_options(config: dict[str, Any]) -> None:
    judge(json.dumps({**CONFIG, **config}).encode(), SOUND)


@settings(deadline=None, max_examples=EXAMPLES)
@given(header=st.dictionaries(names, entries, max_size=4), body=st.binary(max_size=64))
def test_any_header_of_the_right_form(header: dict[str, Any], body: bytes) -> None:
    judge(json.dumps(CONFIG).encode(), with_header(json.dumps(header).encode(), body))


@settings(deadline=None, max_examples=EXAMPLES)
@given(data=st.data())
def test_a_sound_file_with_some_bytes_changed(data: st.DataObject) -> None:
    weights = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 8))):
        weights[data.draw(st.integers(0, len(weights) - 1))] = data.draw(st.integers(0, 255))
    judge(json.dumps(CONFIG).encode(), bytes(weights[: data.draw(st.integers(0, len(weights)))]))


@settings(deadline=None, max_examples=EXAMPLES)
@given(base=st.dictionaries(st.sampled_from(sorted(BASE_CONFIG)), json_values))
def test_any_base_config(base: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as place:
        assert inspect(write_adapter(Path(place)), {**BASE_CONFIG, **base}).rank == 4
