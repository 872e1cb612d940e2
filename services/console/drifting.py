"""How far each feature, and each score, is from how it was at first, over event time. Pure.

The distance of numbers is Kolmogorov and Smirnov's, at the twentieths of the first rows; of a one-hot feature, half
the sum of the differences of its values' shares. Both are between 0 and 1. What the service `drift` says of a change
are its alerts; this is the picture to look at.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.runtime.layout import Layout
from services.runtime.summaries import ScoredSummary

Floats: TypeAlias = NDArray[np.float64]
FIRST = 10  # summaries that say how it was at first
TIMES = 60
EDGES = 19
LAST = 3  # times that say how it is now


class Time(msgspec.Struct):
    """`below` (numbers, EDGES) counts kept values below each edge, of `kept` that are there; `hot` counts values."""

    ended: int
    summaries: int
    below: Floats
    kept: Floats
    hot: Floats

    def add(self, other: "Time") -> None:
        self.ended = max(self.ended, other.ended)
        self.summaries += other.summaries
        self.below, self.kept, self.hot = self.below + other.below, self.kept + other.kept, self.hot + other.hot


class Drifting:
    """Folds summaries of `scored`; some may be left out."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: list[ScoredSummary] = []
        self._edges: Floats | None = None
        self._before: Time | None = None
        self._times: list[Time] = []
        self._stride = 1

    def fold(self, summaries: Sequence[ScoredSummary]) -> None:
        for summary in summaries:
            if self._edges is None:
                self._hold(summary)
            else:
                self._add(self._read(summary, self._edges))

    def _hold(self, summary: ScoredSummary) -> None:
        self._held.append(summary)
        if len(self._held) < FIRST:
            return
        values = np.concatenate([self._values(held) for held in self._held], axis=1)
        values[np.isnan(values).all(axis=1)] = 0.0  # a column that was never there has no quantiles
        self._edges = np.nanquantile(values, np.arange(1, EDGES + 1) / (EDGES + 1), axis=1).T
        self._before = self._read(self._held[0], self._edges)
        for held in self._held[1:]:
            self._before.add(self._read(held, self._edges))
        self._held.clear()

    def _values(self, summary: ScoredSummary) -> Floats:
        found = np.frombuffer(summary.quantiles, np.float32).reshape(len(self._layout.numbers), -1)
        return found.astype(np.float64)

    def _read(self, summary: ScoredSummary, edges: Floats) -> Time:
        values = self._values(summary)
        below = np.array([column.searchsorted(at) for column, at in zip(values, edges, strict=True)], np.float64)
        kept = (~np.isnan(values)).sum(axis=1).astype(np.float64)
        hot = np.frombuffer(summary.hot, np.uint16).astype(np.float64)
        return Time(summary.source.ended, 1, below, kept, hot)

    def _add(self, time: Time) -> None:
        if self._times and self._times[-1].summaries < self._stride:
            self._times[-1].add(time)
            return
        if self._times:
            time.ended = max(time.ended, self._times[-1].ended)  # partitions are not equally far
        if len(self._times) >= TIMES:
            for place in range(0, len(self._times) - 1, 2):
                self._times[place].add(self._times[place + 1])
            self._times = self._times[::2]
            self._stride *= 2
        self._times.append(time)

    # What is shown

    def view(self) -> dict[str, Any]:
        names = [*self._layout.numbers, *self._layout.hots]
        if self._before is None:
            return {"features": names, "times": [], "strength": [[] for _ in names], "before_after": {}}
        strength = np.stack([self._strength(time) for time in self._times], axis=1) if self._times else None
        return {
            "features": names,
            "times": [time.ended // 1000 for time in self._times],
            "strength": [[] for _ in names] if strength is None else strength.round(3).tolist(),
            "before_after": self._before_after(self._before),
        }

    def _strength(self, time: Time) -> Floats:
        """Return the distance of each feature."""
        before = self._before
        if before is None:
            return np.zeros(0)
        apart = np.abs(_shares(time.below, time.kept) - _shares(before.below, before.kept)).max(axis=1)
        hots = []
        for span in self._layout.spans.values():
            shares, usual = _normal(time.hot[span]), _normal(before.hot[span])
            hots.append(float(np.abs(shares - usual).sum() / 2))
        return np.concatenate([apart, hots])

    def _before_after(self, before: Time) -> dict[str, Any]:
        edges = self._edges
        if edges is None or not self._times:
            return {}
        after = _sum(self._times[-LAST:])
        usual, newest = _bins(before), _bins(after)
        said: dict[str, Any] = {
            name: {"edges": _round(edges[place]), "before": _round(usual[place]), "after": _round(newest[place])}
            for place, name in enumerate(self._layout.numbers)
        }
        for name, span in self._layout.spans.items():
            shares = {"before": _round(_normal(before.hot[span])), "after": _round(_normal(after.hot[span]))}
            said[name] = {"edges": [], "names": self._layout.hots[name], **shares}
        return said


def _sum(times: Sequence[Time]) -> Time:
    first = times[0]
    total = Time(first.ended, first.summaries, first.below, first.kept, first.hot)
    for time in times[1:]:
        total.add(time)
    return total


def _shares(below: Floats, kept: Floats) -> Floats:
    return below / np.maximum(kept, 1)[:, None]


def _bins(time: Time) -> Floats:
    """Return the share of each bin: below the first edge, between, from the last on."""
    shares = _shares(time.below, time.kept)
    ones = (time.kept > 0).astype(np.float64)[:, None]
    return np.diff(np.concatenate([np.zeros_like(ones), shares, ones], axis=1), axis=1)


def _normal(counts: Floats) -> Floats:
    return counts / max(float(counts.sum()), 1.0)


def _round(values: Floats) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]
