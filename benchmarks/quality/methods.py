"""The ways of training that are compared, by what they change in a task's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS: Mapping[str, Mapping[str, Any]] = {
    "lora": {},
    "qlora": {"quantize": "nf4"},
    "full": {"recipe": "full"},
}
"""`full` trains the weights of the layers that an adapter would touch, and extracts rank 16 from the change;
whole and extract are both measured. Each method learns at the product's own rate for it."""
