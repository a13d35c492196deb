"""Keeping the libraries' own talk off the terminal, where our progress stands."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers, datasets and Python's warnings be silent inside the block, errors excepted.

    Import torch, peft and trl inside it: most of what they warn of, they warn of on import.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
        from transformers.utils import logging

        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        dataset_bars = not datasets.are_progress_bars_disabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
            if dataset_bars:
                datasets.enable_progress_bars()
