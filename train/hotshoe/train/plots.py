"""Curves as one PNG, a panel below the other: what a page and a card show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

_INCHES_WIDE, _INCHES_HIGH, _DOTS_PER_INCH = 7.2, 2.6, 110
_LOWEST, _HIGHEST = 1e-12, 1e12


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line through (x, y) points in the order of their x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over one axis. logarithmic: losses, which fall by factors; only what is positive is drawn.
    marked: an x with a vertical line, such as the step that was kept."""

    title: str
    along: str
    curves: Sequence[Curve]
    logarithmic: bool = True
    marked: float | None = None

    def drawable(self) -> Panel:
        """The same without points that no axis has a place for, and without curves that have no other."""
        curves = [Curve(curve.name, [p for p in curve.points if self._fits(p[1])]) for curve in self.curves]
        return replace(self, curves=[curve for curve in curves if curve.points])

    def _fits(self, y: float) -> bool:
        return _LOWEST < y < _HIGHEST if self.logarithmic else -_HIGHEST < y < _HIGHEST


def draw(panels: Sequence[Panel]) -> bytes:
    """A PNG, the same bytes for the same panels; empty where there is nothing to draw."""
    from matplotlib.figure import Figure

    shown = [panel for panel in (each.drawable() for each in panels) if panel.curves]
    if not shown:
        return b""
    figure = Figure(figsize=(_INCHES_WIDE, _INCHES_HIGH * len(shown)), layout="constrained")
    for axes, panel in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
        _fill(axes, panel)
    out = io.BytesIO()
    # matplotlib would write its version into the file.
    figure.savefig(out, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return out.getvalue()


def _fill(axes: Any, panel: Panel) -> None:
    for curve in panel.curves:
        # A line through one point is nothing to see.
        marker = "o" if len(curve.points) < 20 else None
        axes.plot(
            *zip(*curve.points, strict=True), label=curve.name, linewidth=1.4, marker=marker, markersize=3
        )
    if panel.marked is not None:
        axes.axvline(panel.marked, color="grey", linewidth=1, alpha=0.6)
    if panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:.3g}")
        low, high = axes.get_ylim()
        # Within a factor of ten there may be no power of ten to read the others by.
        axes.yaxis.set_minor_formatter("{x:.2g}" if high < 10 * low else "")
        axes.tick_params(which="minor", labelsize=7)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel(panel.along, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
