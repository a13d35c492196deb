"""Where a run's steps are reported, too, and where not: transformers' own integrations, checked before it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.reading import nearest

_TENSORBOARD = "TENSORBOARD_LOGGING_DIR"


def check_trackers(names: Sequence[str]) -> None:
    """Raise InvalidConfig for a tracker that transformers does not know, or that is not installed."""
    if not names:
        return
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            hint = nearest(name, INTEGRATION_TO_CALLBACK) or f"; there are: {known}"
            raise InvalidConfig(f"training.trackers: no tracker {name!r}{hint}")
        if name not in get_available_reporting_integrations():
            raise InvalidConfig(f"training.trackers: {name} is not installed: pip install {name}")


@contextmanager
def tracked(out: Path) -> Iterator[None]:
    """Let tensorboard write to `tensorboard/NAME` beside the run's folder, unless the environment says where,
    and tell nobody who was not asked for.

    By itself tensorboard would write among the trainer's own files, which go when the run ends, and trl
    would tell its makers of the base's architecture and the machine.
    """
    from hotshoe.registry.hub import unreported

    with ExitStack() as restored:
        restored.enter_context(unreported())
        if _TENSORBOARD not in os.environ:
            os.environ[_TENSORBOARD] = str(out.with_name("tensorboard") / out.name)
            restored.callback(os.environ.pop, _TENSORBOARD)
        yield
