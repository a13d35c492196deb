"""What a person sees while a run goes on."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from hotshoe.train.processes import processes


class Progress(Protocol):
    """Told what a run is doing; must return at once."""

    def stage(self, text: str) -> None:
        """A new part of the run begins."""

    def step(self, done: int, total: int, loss: float | None) -> None:
        """`done` of `total` parts of this stage are ready; loss of the last one, where there is one."""


class Silent:
    """Tells nobody."""

    def stage(self, text: str) -> None: ...

    def step(self, done: int, total: int, loss: float | None) -> None: ...


class Terminal:
    """One line per stage with a bar, the loss and the time left. Use it as a context manager.

    Of several processes only the first one's shows anything: the others may end within the block, and would
    leave a terminal as bars need it.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            disable=not processes().first,
        )
        self._current: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish_stage()
        self._bars.stop()

    def stage(self, text: str) -> None:
        self._finish_stage()
        self._current = self._bars.add_task(text, total=None, loss="")

    def step(self, done: int, total: int, loss: float | None) -> None:
        if self._current is not None:
            shown = "" if loss is None else f"loss {loss:.3f}"
            self._bars.update(self._current, completed=done, total=total, loss=shown)

    def _finish_stage(self) -> None:
        if self._current is not None:
            task = self._bars.tasks[self._current]
            self._bars.update(self._current, total=task.total or 1, completed=task.total or 1)
            self._bars.stop_task(self._current)
