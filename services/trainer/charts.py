"""The chart of a card that MLflow's own charts can't show, as SVG. Pure."""

from collections.abc import Sequence

from services.trainer.worth import Bin

SIZE, MARGIN = 320, 30
INNER = SIZE - 2 * MARGIN


def reliability_chart(bins: Sequence[Bin]) -> str:
    """Draw the share of positives (up) over the score (right), each from 0 to 1; on the diagonal a model is honest."""
    found = [(found.said, found.found) for found in bins]
    dots = [f'<circle cx="{_x(said):.1f}" cy="{_y(share):.1f}" r="3" fill="#1f77b4"/>' for said, share in found]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}">'
    frame = f'<rect x="{MARGIN}" y="{MARGIN}" width="{INNER}" height="{INNER}" fill="none" stroke="#888"/>'
    title = f'<text x="{MARGIN}" y="{MARGIN - 8}" font-size="11">share of positives over score, 0 to 1</text>'
    return "\n".join([head, frame, title, _line([(0, 0), (1, 1)], "#bbb"), _line(found, "#1f77b4"), *dots, "</svg>"])


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    places = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _x(share: float) -> float:
    return MARGIN + share * INNER


def _y(share: float) -> float:
    return SIZE - MARGIN - share * INNER
