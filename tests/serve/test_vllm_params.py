"""Every way to sample reaches vLLM."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from vllm.sampling_params import StructuredOutputsParams

from hotshoe.serve.structures.wanted import Wanted
from hotshoe.serve.vllm_params import params_of
from hotshoe.wire.structure import Regex
from hotshoe.wire.values import Sampling

FIELDS = [each.name for each in dataclasses.fields(Sampling)]

ASKED: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 7,
    "min_p": 0.125,
    "repetition_penalty": 1.5,
    "presence_penalty": -0.5,
    "frequency_penalty": 0.75,
    "seed": 2**40,
    "max_tokens": 9,
    "min_tokens": 3,
    "stop": ("END", "###"),
    "stop_token_ids": (11, 12),
    "ignore_eos": True,
    "n": 3,
    "logprobs": 4,
    "logit_bias": ((5, -1.5), (6, 2.0)),
    "structure": Regex("a+"),
}
"""A value of each field that is neither Sampling's default nor vLLM's."""

TOLD: dict[str, Any] = {
    **ASKED,
    "stop": ["END", "###"],
    "stop_token_ids": [11, 12],
    "logit_bias": {5: -1.5, 6: 2.0},
    "structure": StructuredOutputsParams(grammar="its key"),
}
"""What vLLM's parameters then say."""


def told(name: str, sampling: Sampling, **defaults: Any) -> Any:
    """What vLLM's parameters say of that field."""
    structure = None if sampling.structure is None else Wanted("its key", "acme", "regex", "a+")
    name = "structured_outputs" if name == "structure" else name
    return getattr(params_of(sampling, defaults, structure), name)


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_is_told_to_vllm(name: str) -> None:
    asked = Sampling(**{name: ASKED[name]})
    assert told(name, asked) == TOLD[name] != told(name, Sampling())


def test_all_fields_are_told_at_once() -> None:
    asked = Sampling(**ASKED)
    assert {name: told(name, asked) for name in FIELDS} == TOLD


def test_the_bases_own_config_counts_where_nothing_is_asked_for() -> None:
    defaults = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    for name, default in defaults.items():
        assert told(name, Sampling(), **defaults) == default
        assert told(name, Sampling(**{name: ASKED[name]}), **defaults) == ASKED[name]
    assert told("temperature", Sampling(temperature=0), **defaults) == 0
