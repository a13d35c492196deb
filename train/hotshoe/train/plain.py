"""Beginnings that move a part of the base's weights into the adapter, and the plain LoRA that they end as.

PiSSA (Meng et al., 2024) and OLoRA (Büyükakyüz, 2024) train on W - s·B0·A0 with B0 and A0 in the adapter, so
what they save is of use on that base alone. What was learned is s·(B·A - B0·A0): a LoRA of twice the rank on
the base as it was, which peft writes, and which any server of the base can load.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hotshoe.train.model import Model

_BEGUN, _PLAIN = "begun", "plain"


def keep_beginning(model: Model, folder: Path) -> None:
    """Write down the adapter as it begins. The base's weights are what is left beside this very one."""
    model.save_pretrained(folder / _BEGUN, save_embedding_layers=False)


def write_plain(model: Model, folder: Path) -> None:
    """Write what the model has learned since its beginning in `folder`, as a plain LoRA beside it."""
    model.save_pretrained(
        folder / _PLAIN,
        path_initial_model_for_weight_conversion=str(folder / _BEGUN),
        save_embedding_layers=False,
    )


def load_plain(base: Callable[[], Model], folder: Path) -> Model:
    """An untouched base with what `write_plain` wrote in `folder`."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base(), folder / _PLAIN, is_trainable=True)
