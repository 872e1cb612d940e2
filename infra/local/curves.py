"""A picture of curves over events, as `loadtests/drift_loop.py` has them: the served log loss, of each run."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 320, 50, 40, 30
COLOURS = ("#888888", "#c0392b", "#1f77b4")


class Curve(NamedTuple):
    """A run: where its windows end, in labelled events, and their mean loss in nats."""

    name: str
    ends: list[int]
    means: list[float]


def page(curves: Mapping[str, Sequence[Curve]], turns: Mapping[str, int]) -> str:
    """Return a page of its own, with a picture for each stream; labels turn round after `turns` of them."""
    pictures = "".join(f"<h2>{escape(name)}</h2>{picture(found, turns[name])}" for name, found in curves.items())
    head = "<!doctype html><meta charset=utf-8><title>The loop</title>"
    return f"{head}<body style='font-family:sans-serif'><h1>Served log loss, labels turned round</h1>{pictures}"


def picture(curves: Sequence[Curve], turn: int) -> str:
    last = max(curve.ends[-1] for curve in curves)
    highest = max(max(curve.means) for curve in curves)

    def x(end: float) -> float:
        return LEFT + (WIDTH - LEFT - 10) * end / last

    def y(mean: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - mean / highest)

    lines = "".join(_line(curve, colour, x, y) for curve, colour in zip(curves, COLOURS, strict=True))
    names = "".join(
        f"<text x='{LEFT + 10 + 200 * place}' y='18' fill='{colour}'>{escape(curve.name)}</text>"
        for place, (curve, colour) in enumerate(zip(curves, COLOURS, strict=True))
    )
    ticks = "".join(
        f"<text x='{LEFT - 8}' y='{y(level) + 4:.0f}' text-anchor='end'>{level:.2f}</text>"
        f"<line x1='{LEFT}' x2='{WIDTH - 10}' y1='{y(level):.1f}' y2='{y(level):.1f}' stroke='#ddd'/>"
        for level in (highest * part / 4 for part in range(5))
    )
    mark = f"<line x1='{x(turn):.1f}' x2='{x(turn):.1f}' y1='{TOP}' y2='{HEIGHT - BOTTOM}' stroke='black'/>"
    below = f"<text x='{x(turn):.0f}' y='{HEIGHT - 12}' text-anchor='middle'>labels turn after {turn:,}</text>"
    size = f"width='{WIDTH}' height='{HEIGHT}' viewBox='0 0 {WIDTH} {HEIGHT}' font-size='12'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>{ticks}{mark}{below}{names}{lines}</svg>"


def _line(curve: Curve, colour: str, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    points = " ".join(f"{x(end):.1f},{y(mean):.1f}" for end, mean in zip(curve.ends, curve.means, strict=True))
    return f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
