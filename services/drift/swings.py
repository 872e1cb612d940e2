"""One watched number at several spans: how it swings from window to window without a change, and what is beyond that.

It is what a panel does for its tables, for a statistic that has no cells: see `kernels.py`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.drift import kernels
from services.drift.kernels import Floats, Ints

MEMORY = 500.0  # blocks that tell how a statistic swings
LOT = 12  # blocks: what windows say is believed one or two lots later, so that a change does not make itself usual
FEWEST, WINDOWS = 15, 3  # blocks, and windows of a span, that tell it before the span is believed
WHILE_ALERTED = 0.25  # what a window counts while an alert stands


def warm(spans: Ints) -> Ints:
    """Return after how many blocks each span is believed."""
    blocks: Ints = np.maximum(FEWEST, WINDOWS * spans)
    return blocks


def believe(null: Floats, spans: Ints) -> None:
    """Let the older lot in `null` (3, tables, spans, statistics, 3) be believed, and the newer one be the older."""
    believed, older, newer = null
    believed += older
    most = MEMORY / spans[None, :, None, None]
    believed *= np.minimum(1, most / np.maximum(believed[..., :1], 1e-9))
    older[...], newer[...] = newer, 0


class Swings:
    """Ratios of a statistic to what a chi-square law of `freedom` degrees expects, by span; in nats what they say."""

    def __init__(self, spans: Ints, freedom: float) -> None:
        self._spans, self._freedom, self._warm = spans, freedom, warm(spans)
        self._null = np.zeros((3, 1, len(spans), 1, 3))
        self._surprise = np.zeros(len(spans))
        self._blocks = 0

    def fold(self, ratios: Floats, *, stands: bool) -> Floats:
        """Return the surprise of each span's newest window, until the next; 0 for one that is not believed yet."""
        believed, newest = self._null[0, 0, :, 0], self._null[2, 0, :, 0]
        weight = WHILE_ALERTED if stands else 1.0
        how = self._warm, weight, self._spans
        kernels.weigh_spans(ratios, self._freedom, believed, newest, *how, self._surprise)
        self._blocks += 1
        if self._blocks % LOT == 0:
            believe(self._null, self._spans)
        return self._surprise

    def state(self) -> tuple[int, bytes]:
        return self._blocks, self._null.tobytes()

    def load(self, blocks: int, null: bytes) -> None:
        self._blocks = blocks
        self._null = unpacked(null, self._null)


def unpacked(held: bytes, like: NDArray[Any]) -> NDArray[Any]:
    """Return an array from its bytes, of the kind and shape of another."""
    return np.frombuffer(held, like.dtype).reshape(like.shape).copy()
