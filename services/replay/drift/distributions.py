"""Pictures of a feature before and after: wide pale bars, and narrow dark ones in front of them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from services.replay.drift.markup import Markup, join, tag
from services.replay.drift.words import counted, named, number, share
from services.runtime.alerts import Explained, Histogram

WIDTH, HEIGHT, FOOT = 360, 168, 30
TOP = 14
GAP = 10  # before the bar of what is missing
ROW, ROWS, LETTER, LETTERS = 20, 12, 6.5, 17
MISSING = "missing"


class Bar(NamedTuple):
    """A bin: what is in it, and which shares of the values were in it before and are now."""

    name: str
    before: float
    after: float


def bars(before: Histogram | None, after: Histogram | None) -> list[Bar]:
    """Return the bins of both; that of missing values is last, where there are any. Without `before` its shares are 0.

    There are none where nothing was counted, and where the two are not of the same bins.
    """
    known = [found for found in (before, after) if found is not None]
    if not known or any((one.names, one.edges) != (known[0].names, known[0].edges) for one in known):
        return []
    names = known[0].names or bins(known[0].edges)
    shares = [_shares(found, len(names)) for found in (before, after)]
    if None in shares or not names:
        return []
    made = [Bar(name, *pair) for name, *pair in zip([*names, MISSING], *filter(None, shares), strict=True)]
    if not any(bar.before or bar.after for bar in made):
        return []
    return made if made[-1].before or made[-1].after else made[:-1]


def bins(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all"]
    inner = [_between(number(low), number(high)) for low, high in pairwise(edges)]
    return [f"under {number(edges[0])}", *inner, f"{number(edges[-1])} or more"]


def _between(low: str, high: str) -> str:
    """Name a bin; one of a single value, as of a constant, has edges that read the same."""
    return low if low == high else f"{low} to {high}"


def _shares(found: Histogram | None, count: int) -> list[float] | None:
    if found is None:
        return [0.0] * (count + 1)
    if len(found.counts) != count:
        return None
    total = sum(found.counts) + found.missing
    return [part / total if total else 0.0 for part in [*found.counts, found.missing]]


def picture(explained: Explained) -> Markup | None:
    """Draw it: numbers stand upright in the order of their bins, names lie, what changed most first."""
    made = bars(explained.before, explained.after)
    if not made:
        return None
    of = explained.after or explained.before
    return _names(explained.name, made) if of is not None and of.names else _numbers(explained, made)


def told(explained: Explained) -> str:
    """Say how many values the picture is of."""
    counts = [0 if one is None else sum(one.counts) + one.missing for one in (explained.before, explained.after)]
    return f"{counted(counts[0], 'value')} before, {counts[1]:,} after"


# Numbers


def _numbers(explained: Explained, made: list[Bar]) -> Markup:
    missing = made[-1].name == MISSING
    most = max(max(bar.before, bar.after) for bar in made)
    count = len(made)
    step = (WIDTH - GAP * missing) / count
    floor = HEIGHT - FOOT
    drawn = [
        _upright(bar, at * step + GAP * (missing and at == count - 1), step, floor, (floor - TOP) / most)
        for at, bar in enumerate(made)
    ]
    line = tag("line", x1=0, x2=WIDTH, y1=floor, y2=floor, class_="axis")
    scale = tag("text", f"{share(most)} of the values", x=0, y=TOP - 4, class_="note")
    words = join(*_edges(explained, step, floor + 14), _missing_word(floor + 14, missing=missing))
    return _svg(explained.name, made, HEIGHT, join(scale, *drawn, line, words))


def _upright(bar: Bar, x: float, step: float, floor: float, scale: float) -> Markup:
    wide, narrow = step * 0.86, max(step * 0.36, 1.5)
    middle = x + step / 2
    said = tag("title", f"{bar.name}: {share(bar.before)} before, {share(bar.after)} after")
    boxes = [
        tag("rect", x=middle - width / 2, y=floor - part * scale, width=width, height=part * scale, class_=name)
        for part, width, name in ((bar.before, wide, "before"), (bar.after, narrow, "after"))
    ]
    return tag("g", said, *boxes)


def _edges(explained: Explained, step: float, y: float) -> list[Markup]:
    """Write the edges at both ends and in the middle, where they stand."""
    of = explained.after or explained.before
    edges = of.edges if of is not None else []
    places = sorted({0, len(edges) // 2, len(edges) - 1}) if edges else []
    anchors = {0: "start" if step < 24 else "middle", len(edges) - 1: "middle"}  # noqa: PLR2004 - room for half a word
    return [
        tag("text", number(edges[at]), x=(at + 1) * step, y=y, class_="note", text_anchor=anchors.get(at, "middle"))
        for at in places
    ]


def _missing_word(y: float, *, missing: bool) -> Markup | None:
    return tag("text", MISSING, x=WIDTH, y=y + 12, class_="note", text_anchor="end") if missing else None


# Names


def _names(name: str, made: list[Bar]) -> Markup:
    order = sorted(made, key=lambda bar: -abs(bar.after - bar.before))
    shown, rest = order[:ROWS], order[ROWS:]
    most = max(max(bar.before, bar.after) for bar in made)
    left = min(max(len(bar.name) for bar in shown), LETTERS) * LETTER + 12
    scale = (WIDTH - left - 92) / most
    drawn = [_lying(bar, left, at * ROW, scale) for at, bar in enumerate(shown)]
    height = len(shown) * ROW + (16 if rest else 4)
    more = tag("text", f"and {len(rest)} more that changed less", x=left, y=height - 4, class_="note") if rest else None
    return _svg(name, shown, height, join(*drawn, more))


def _lying(bar: Bar, left: float, y: float, scale: float) -> Markup:
    name = bar.name if len(bar.name) <= LETTERS else f"{bar.name[: LETTERS - 1]}…"
    boxes = [
        tag("rect", x=left, y=y + (ROW - high) / 2, width=part * scale, height=high, class_=kind)
        for part, high, kind in ((bar.before, ROW * 0.8, "before"), (bar.after, ROW * 0.34, "after"))
    ]
    end = left + max(bar.before, bar.after) * scale + 6
    return tag(
        "g",
        tag("title", f"{bar.name}: {share(bar.before)} before, {share(bar.after)} after"),
        tag("text", name, x=left - 8, y=y + ROW / 2 + 4, class_="label", text_anchor="end"),
        *boxes,
        tag("text", f"{share(bar.before)} → {share(bar.after)}", x=end, y=y + ROW / 2 + 4, class_="note"),
    )


def _svg(name: str, made: list[Bar], height: float, content: Markup) -> Markup:
    grown = sorted(made, key=lambda bar: bar.before - bar.after)[:3]
    says = named([f"{bar.name} from {share(bar.before)} to {share(bar.after)}" for bar in grown])
    return tag(
        "svg",
        tag("title", f"{name}, before and after"),
        tag("desc", f"Of the values, grown most: {says}."),
        content,
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        class_="distribution",
    )
