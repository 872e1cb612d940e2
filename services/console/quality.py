"""How good each model is over event time, by what labels say of a hundred rows at a time. Pure.

Points are as many as a page can show: when there are more, neighbours become one, so that memory is bounded and the
oldest is as coarse as the newest.
"""

import math
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from services.runtime.layout import Layout
from services.runtime.summaries import BINS, LOSS, ExampleSummary, Judged

POINTS = 480
RECENT = 50  # summaries that calibration and slices are of
SERVED, PRIOR, BATCH = "served", "prior", "batch"
_SUM = struct.Struct("<d")  # a thousand summaries a second: no array for each
_ONES = struct.Struct("<" + "16xd" * BINS)  # the labels of each bin: the last of its three


class Point(msgspec.Struct):
    """`summaries` of rows up to the event time `ended` (µs): rows and losses of each model."""

    ended: int = 0
    summaries: int = 0
    rows: int = 0
    losses: dict[str, tuple[int, float]] = {}

    def lose(self, model: str, rows: int, loss: float) -> None:
        before, lost = self.losses.get(model, (0, 0.0))
        self.losses[model] = before + rows, lost + loss

    def add(self, other: "Point") -> None:
        self.ended = max(self.ended, other.ended)
        self.summaries += other.summaries
        self.rows += other.rows
        for model, (rows, loss) in other.losses.items():
            self.lose(model, rows, loss)

    def row(self) -> list[Any]:
        means = {model: round(loss / rows, 5) for model, (rows, loss) in self.losses.items() if rows}
        return [self.ended // 1000, means, self.rows]


class Quality:
    """Folds summaries of `examples`, each once."""

    def __init__(self, layout: Layout) -> None:
        self._sliced = layout.sliced
        self._points: list[Point] = [Point()]
        self._stride = 1  # summaries of a point that is full
        self.epoch = 0  # grows when points that were shown have become others
        self._numbers: dict[tuple[str, int], int] = {}
        self._recent: deque[Judged] = deque(maxlen=RECENT)
        self._labels = [0, 0.0]  # rows, and those whose label is 1, before the newest
        self._outcomes = [0, 0, 0, 0]
        self._delays: tuple[int, float, float] = (0, 0.0, 0.0)

    def fold(self, summaries: Sequence[ExampleSummary], champion: int | None) -> None:
        """Take what came; `champion` is the version of the batch model that "batch" stands for."""
        for summary in summaries:
            source = (summary.source.topic, summary.source.partition)
            if summary.source.number > self._numbers.get(source, -1):
                self._numbers[source] = summary.source.number
                self._fold(summary, champion)

    def _fold(self, summary: ExampleSummary, champion: int | None) -> None:
        self._outcomes = [a + b for a, b in zip(self._outcomes, summary.outcomes, strict=True)]
        count, total, _, longest = summary.delays
        self._delays = self._delays[0] + count, self._delays[1] + total, max(self._delays[2], longest)
        point = self._growing()
        point.ended = max(point.ended, summary.source.ended)  # partitions are not equally far
        point.summaries += 1
        point.rows += summary.rows
        batch = _batch(summary.models, champion)
        for judged in summary.models:
            loss = _loss(judged)
            point.lose(judged.model, judged.rows, loss)
            if judged.model == batch:
                point.lose(BATCH, judged.rows, loss)
            elif judged.model == SERVED:
                point.lose(PRIOR, judged.rows, self._guess(judged))
                self._recent.append(judged)

    def _guess(self, judged: Judged) -> float:
        """Return what guessing by how frequent a label of 1 was so far would have lost on these rows."""
        ones: float = sum(_ONES.unpack(judged.bins))
        rows, before = self._labels
        p = (before + 1) / (rows + 2)
        self._labels = [rows + judged.rows, before + ones]
        return -(ones * math.log(p) + (judged.rows - ones) * math.log(1 - p))

    def _growing(self) -> Point:
        """Return the newest point, which has room for one more summary."""
        if self._points[-1].summaries >= self._stride:
            if len(self._points) >= POINTS:
                self._halve()
            self._points.append(Point(self._points[-1].ended))
        return self._points[-1]

    def _halve(self) -> None:
        for place in range(0, len(self._points) - 1, 2):
            self._points[place].add(self._points[place + 1])
        self._points = self._points[::2]
        self._stride *= 2
        self.epoch += 1

    # What is shown

    @property
    def known(self) -> bool:
        return self._points[0].summaries > 0

    def view(self, cursor: tuple[int, int] = (-1, 0)) -> tuple[dict[str, Any], tuple[int, int]]:
        """Return what is new since a cursor, and the next cursor: the last point grows until it is full.

        `first` is the place of the first of these points: what a page has from there on, they stand for.
        """
        epoch, seen = cursor
        first = max(0, seen - 1) if epoch == self.epoch else 0
        points = [point.row() for point in self._points[first:] if point.summaries]
        said = {
            "first": first,
            "points": points,
            "coverage": self._coverage(),
            "calibration": self._calibration(),
            "slices": self._slices(),
        }
        return said, (self.epoch, len(self._points))

    def _coverage(self) -> dict[str, Any]:
        names = ("label", "timeout", "late", "corrected")
        count, total, longest = self._delays
        known, late = self._outcomes[0] + self._outcomes[2], self._outcomes[1]
        return {
            **dict(zip(names, self._outcomes, strict=True)),
            "share": round(known / (known + late), 4) if known + late else None,
            "mean_delay_s": round(total / count, 1) if count else None,
            "longest_delay_s": round(longest, 1) if count else None,
        }

    def _calibration(self) -> list[list[float]]:
        bins = _sum([judged.bins for judged in self._recent], BINS)
        return [[round(score / n, 4), round(ones / n, 4), int(n)] for n, score, ones in bins if n]

    def _slices(self) -> list[dict[str, Any]]:
        slices = _sum([judged.slices for judged in self._recent], len(self._sliced))
        named = zip(self._sliced, slices, strict=True)
        found = [(*name.partition("=")[::2], int(n), loss / n) for name, (n, loss, _) in named if n]
        return [{"field": field, "value": value, "n": n, "log_loss": round(loss, 5)} for field, value, n, loss in found]


def _sum(arrays: Sequence[bytes], rows: int) -> list[list[float]]:
    """Return the sum of arrays of (rows, 3)."""
    found: list[list[float]] = np.frombuffer(b"".join(arrays)).reshape(-1, rows, 3).sum(axis=0).tolist()
    return found


def _batch(models: Sequence[Judged], champion: int | None) -> str:
    """Return which model "batch" stands for: the champion; if that did not answer, the newest version that did."""
    named = [judged.model for judged in models if "@" in judged.model]
    champions = f"{BATCH}@{champion}"
    return champions if champions in named else max(named, key=_version, default="")


def _version(model: str) -> int:
    return int(model.partition("@")[2])


def _loss(judged: Judged) -> float:
    found: float = _SUM.unpack_from(judged.sums, LOSS * _SUM.size)[0]
    return found
