"""Keeping the libraries' own talk off the terminal, where our progress stands."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers, datasets, bitsandbytes and Python's warnings be silent in the block, errors excepted.

    Import torch, peft and trl inside it: most of what they warn of, they warn of on import.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
        from transformers.utils import logging as talk

        verbosity, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
        dataset_bars = not datasets.are_progress_bars_disabled()
        talk.set_verbosity_error()
        talk.disable_progress_bar()
        datasets.disable_progress_bars()
        # It says with every product of 8 bits that it computes in 16.
        bits = logging.getLogger("bitsandbytes")
        level = bits.level
        bits.setLevel(logging.ERROR)
        try:
            yield
        finally:
            bits.setLevel(level)
            talk.set_verbosity(verbosity)
            if bars:
                talk.enable_progress_bar()
            if dataset_bars:
                datasets.enable_progress_bars()
