"""The monitor of `scored`: features, whether they are missing or out of range, and predictions."""

import math
from typing import TypeAlias

import msgspec
import numpy as np

from services.drift.distributions import Case, Distributions
from services.drift.joint import Joint, JointState
from services.drift.panel import Panel, PanelState
from services.drift.profiles import Profile, ProfileState
from services.drift.reducing import KEPT, ROWS, WHOLE
from services.drift.signals import Signal
from services.drift.slicing import Slicing, SlicingState
from services.drift.volume import HOUR, Volume, VolumeState
from services.drift.watched import Table
from services.runtime.layout import SCORES, Layout
from services.runtime.stream import Stream
from services.runtime.summaries import ScoredSummary, Source

SAFETY = 4.0  # chances are told by laws that fit only so well: a quarter of what may be spent is spent
State: TypeAlias = tuple[PanelState, list[Case], int]


class FeaturesState(msgspec.Struct):
    """What Features holds."""

    distributions: State
    profile: ProfileState
    slices: SlicingState
    volume: VolumeState
    joint: JointState


class Features:
    """Folds summaries of `scored`, of all partitions in the order in which they meet, into signals."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._layout = stream, Layout(stream)
        layout = self._layout
        rule = stream.pipeline.drift
        blocks = rule.reference // ROWS
        hots = [len(values) for values in layout.hots.values()]
        self._direct = np.array([i for i, name in enumerate(layout.features) if name in layout.direct], np.int64)
        panel = Panel(len(layout.numbers), [*hots, *[2] * len(self._direct)], blocks, self._direct.tolist())
        self._hots, self._widest = len(hots), max([2, *hots])
        spans = enumerate(layout.spans.values())
        starts = [place * self._widest - span.start + np.arange(span.start, span.stop) for place, span in spans]
        self._rest = np.zeros((self._hots + len(self._direct), self._widest), np.int64)
        self._hot_cells = np.concatenate([np.zeros(0, np.int64), *starts])  # where in `rest` a one-hot count stands
        tests = panel.tests * 4 // 3 + Volume.tests + Joint.tests
        needed = math.log(SAFETY * 2 * rule.false_alarms / ROWS * tests)
        self._volume, self._joint = Volume(needed, blocks), Joint(len(layout.watched), needed, blocks)
        tables = _tables(layout)
        self._slicing = Slicing(layout.sliced, len(layout.numbers), blocks)
        self._distributions, self._profile = (
            Distributions(panel, self._slicing, tables, needed),
            Profile(panel, tables, needed),
        )

    def fold(self, summary: ScoredSummary) -> list[Signal]:
        layout, count = self._layout, len(self._layout.features)
        quantiles = np.frombuffer(summary.quantiles, np.float32).reshape(len(layout.numbers), KEPT)
        missing = np.frombuffer(summary.missing, np.uint16).astype(np.int64)
        hot, defaults = np.frombuffer(summary.hot, np.uint16), np.frombuffer(summary.defaults, np.uint16)
        rest = self._rest
        rest.put(self._hot_cells, hot)
        rest[self._hots :, 1] = (defaults + missing[:count])[self._direct]
        rest[self._hots :, 0] = ROWS - rest[self._hots :, 1]
        whole = np.frombuffer(summary.whole, np.float32).reshape(WHOLE, layout.width).take(layout.watched, axis=1)
        said = self._volume.fold(summary.source) + self._joint.fold(summary.source, whole)
        sums = np.frombuffer(summary.sums, np.float32).reshape(len(layout.sliced), 1 + len(layout.numbers))
        self._slicing.fold(sums, stands=bool(self._distributions.cases))
        said += self._follow(summary) + self._distributions.fold(summary.source, quantiles, missing, rest)
        return said + self._profile.fold(summary.source)

    def _follow(self, summary: ScoredSummary) -> list[Signal]:
        """Take note of which version is champion: the one of the most rows."""
        champions = [one for one in summary.answered if one.champion]
        if not champions:
            return []
        champion = max(champions, key=lambda one: (one.champion, one.version)).version
        said = []
        if champion != self._profile.version:
            said = self._distributions.renew(summary.source, champion) + self._profile.renew(champion, summary.source)
        newest = max(one.version for one in summary.answered)
        self._distributions.version = max(self._distributions.version, newest)
        return said

    def strengths(self) -> dict[str, float]:
        """Return how strange each feature is, of how strange it has to be for an alert."""
        return self._distributions.strengths("features")

    def warm_up(self) -> None:
        """Compile the kernels, or load them from their cache, before the first summary waits for them: try another."""
        other = Features(self._stream)
        for number in range(self._stream.pipeline.drift.reference // ROWS + 2):
            other.fold(blank(self._layout, number))

    # Snapshots

    def snapshot(self) -> bytes:
        held = self._distributions.state(), self._profile.state(), self._slicing.state()
        return msgspec.msgpack.encode(FeaturesState(*held, self._volume.state(), self._joint.state()))

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=FeaturesState)
        self._distributions.load(*held.distributions)
        self._profile.load(held.profile)
        self._slicing.load(held.slices)
        self._volume.load(held.volume)
        self._joint.load(held.joint)


def _tables(layout: Layout) -> list[Table]:
    named = [(name, layout.fields[name], name in layout.direct) for name in layout.features]
    return [
        *(Table("features", name, (), field, direct) for name, field, direct in named),
        *(Table("predictions", name) for name in SCORES),
        *(Table("features", name, values) for name, values in layout.hots.items()),
        *(Table("missing", name, ("there", "missing"), field, direct) for name, field, direct in named if direct),
        *(Table("range", name, ("within", "outside"), field, direct) for name, field, direct in named if direct),
    ]


def blank(layout: Layout, number: int) -> ScoredSummary:
    """Return a summary of rows of zeros; each took an hour."""
    numbers, features = len(layout.numbers), len(layout.features)
    source = Source("", 0, number, number, number, number * HOUR, (number + 1) * HOUR)
    quantiles, whole = bytes(4 * numbers * KEPT), bytes(4 * WHOLE * layout.width)
    counts = bytes(2 * numbers), bytes(2 * features), bytes(2 * layout.hot_width)
    return ScoredSummary(source, ROWS, quantiles, *counts, whole, bytes(4 * len(layout.sliced) * (1 + numbers)))
