"""Curves of loss by step, drawn as SVG that follows the page's colours."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 720, 260
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 28, 12, 12
_COLOURS = ("#2f6fd0", "#d0712f", "#3a9a5b")
_MOST_POINTS = 600
_LOWEST, _HIGHEST = 1e-12, 1e12


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line through (step, loss) points in the order of their steps."""

    name: str
    points: Sequence[tuple[int, float]]


def plot(curves: Sequence[Curve], *, marked_step: int | None = None) -> str:
    """An SVG of the curves on a logarithmic axis, a vertical line at `marked_step`; empty without points."""
    finite = [
        Curve(curve.name, [(x, y) for x, y in curve.points if _LOWEST < y < _HIGHEST]) for curve in curves
    ]
    points = [point for curve in finite for point in curve.points]
    if not points:
        return ""
    frame = _Frame.around(points)
    parts = [*_axes(frame)]
    if marked_step is not None:
        x = frame.x(marked_step)
        parts.append(f"<path d='M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}' stroke='currentColor' opacity='.4'/>")
    for index, curve in enumerate(finite):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in _thinned(curve.points))
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.6'/>")
        label = html.escape(curve.name)
        parts.append(f"<text x='{_WIDTH - 110}' y='{_TOP + 14 + 18 * index}' fill='{colour}'>{label}</text>")
    drawn = "".join(parts)
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='100%' role='img' aria-label='loss by step' "
        f"font-size='12' fill='currentColor'>{drawn}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where steps and losses lie on the picture; losses by their logarithm."""

    first: int
    last: int
    low: float
    high: float

    @classmethod
    def around(cls, points: Sequence[tuple[int, float]]) -> _Frame:
        steps = [x for x, _ in points]
        losses = [y for _, y in points]
        low, high = min(losses), max(losses)
        if low == high:
            low, high = low / 1.1, high * 1.1
        return cls(min(steps), max(*steps, min(steps) + 1), low, high)

    def x(self, step: int) -> float:
        return _LEFT + (step - self.first) / (self.last - self.first) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, loss: float) -> float:
        share = math.log(loss / self.low) / math.log(self.high / self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _axes(frame: _Frame) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        loss = frame.low * (frame.high / frame.low) ** share
        y = frame.y(loss)
        parts.append(f"<path d='M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}' stroke='currentColor' opacity='.15'/>")
        parts.append(f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{loss:.3g}</text>")
    ends = (frame.first, "start"), (frame.last, "end")
    for step, anchor in ends:
        x = frame.x(step)
        parts.append(f"<text x='{x:.1f}' y='{_HEIGHT - 8}' text-anchor='{anchor}'>step {step:,}</text>")
    return parts


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Every n-th point of a long curve, its last one included."""
    stride = max(math.ceil(len(points) / _MOST_POINTS), 1)
    kept = list(points[::stride])
    return kept if kept[-1:] == list(points[-1:]) else [*kept, points[-1]]
