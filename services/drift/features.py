"""The monitor of `scored`: features, whether they are missing or out of range, and predictions."""

import math
from typing import TypeAlias

import msgspec
import numpy as np

from services.drift.distributions import Case, Distributions, Table
from services.drift.joint import Joint, JointState
from services.drift.layout import SCORES, Layout
from services.drift.panel import Panel, PanelState
from services.drift.reducing import KEPT, ROWS, WHOLE
from services.drift.signals import Signal
from services.drift.summaries import ScoredSummary
from services.drift.volume import Volume, VolumeState
from services.runtime.stream import Stream

State: TypeAlias = tuple[PanelState, list[Case]]


class FeaturesState(msgspec.Struct):
    """What Features holds."""

    inputs: State
    scores: State
    volume: VolumeState
    joint: JointState


class Features:
    """Folds summaries of `scored`, of all partitions in the order in which they meet, into signals."""

    def __init__(self, stream: Stream) -> None:
        self._layout = layout = Layout(stream)
        rule = stream.pipeline.drift
        blocks, count = rule.reference // ROWS, len(layout.features)
        hots = [len(values) for values in layout.hots.values()]
        self._direct = np.array([i for i, name in enumerate(layout.features) if name in layout.direct], np.int64)
        inputs = Panel(count, [*hots, *[2] * len(self._direct)], blocks, self._direct.tolist())
        scores = Panel(len(SCORES), [], blocks)
        tests = inputs.tests + scores.tests + Volume.tests + Joint.tests
        needed = math.log(2 * rule.false_alarms / ROWS * tests)
        self._volume, self._joint = Volume(needed, blocks), Joint(len(layout.watched), needed, blocks)
        self._inputs = Distributions(inputs, _tables(layout), needed)
        self._scores = Distributions(scores, [Table("predictions", name) for name in SCORES], needed)

    def fold(self, summary: ScoredSummary) -> list[Signal]:
        layout, count = self._layout, len(self._layout.features)
        quantiles = np.frombuffer(summary.quantiles, np.float32).reshape(len(layout.numbers), KEPT)
        missing = np.frombuffer(summary.missing, np.uint16).astype(np.int64)
        hot, defaults = np.frombuffer(summary.hot, np.uint16), np.frombuffer(summary.defaults, np.uint16)
        widths = [span.stop - span.start for span in layout.spans.values()]
        rest = np.zeros((len(widths) + len(self._direct), max([2, *widths])), np.int64)
        for place, span in enumerate(layout.spans.values()):
            rest[place, : widths[place]] = hot[span]
        gone = (defaults + missing[:count])[self._direct]
        rest[len(widths) :, 0], rest[len(widths) :, 1] = ROWS - gone, gone
        whole = np.frombuffer(summary.whole, np.float32).reshape(WHOLE, layout.width)[:, layout.watched]
        said = self._volume.fold(summary.source) + self._joint.fold(summary.source, whole)
        said += self._inputs.fold(summary.source, quantiles[:count], missing[:count], rest)
        empty = np.zeros((0, 0), np.int64)
        return said + self._scores.fold(summary.source, quantiles[count:], missing[count:], empty)

    # Snapshots

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(
            FeaturesState(self._inputs.state(), self._scores.state(), self._volume.state(), self._joint.state())
        )

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=FeaturesState)
        self._inputs.load(*held.inputs)
        self._scores.load(*held.scores)
        self._volume.load(held.volume)
        self._joint.load(held.joint)


def _tables(layout: Layout) -> list[Table]:
    named = [(name, layout.fields[name], name in layout.direct) for name in layout.features]
    return [
        *(Table("features", name, (), field, direct) for name, field, direct in named),
        *(Table("features", name, values) for name, values in layout.hots.items()),
        *(Table("missing", name, ("there", "missing"), field, direct) for name, field, direct in named if direct),
        *(Table("range", name, ("within", "outside"), field, direct) for name, field, direct in named if direct),
    ]
