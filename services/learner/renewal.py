"""When a model that learns on is to be begun anew: the world has turned, and what it has learned holds it back. Pure.

A step of a gradient is small, so a model that was right for long takes as long to come round. Its own losses tell when:
their sum over what is usual, less a margin, begins at 0 and never falls below it (CUSUM: Page, 1954), and above
`ALARM` the examples since it was 0 last may be of another world. They are if the model lost far more on them than who
knows their share of positives alone; in a storm it loses more than is usual and still knows more than that, and what
was learned in a storm alone is of no use after it. With enough of them a new model learns them several times over, all
but the newest quarter; on that it is held against what the old one lost there, and takes its place if it loses less.
That is tried again whenever there are twice as many, up to `MOST`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from services.runtime.quality import log_loss
from services.runtime.river_score import score

WINDOW = 5000  # examples within which what is usual fades
WARM_UP = 1000  # examples before anything is usual
MARGIN = 0.2  # nats an example that may be lost above what is usual, as in a storm
MOST_LOST = 3.0  # nats an example that count: one mistake is no alarm
ALARM = 25.0  # nats
TURNED = 1.5  # times what is lost by who knows the share of positives alone: the world has turned
FEWEST, MOST = 250, 2000  # examples of the new world that it is tried with first, and at most
PASSES = 5
HELD = 4  # the newest quarter


Model: TypeAlias = Any  # a River pipeline, of which `model.py` alone knows more


class Example(NamedTuple):
    """What was learned, and what the model had lost on it before."""

    vector: dict[str, float]
    label: bool
    loss: float


class Renewal:
    """Told of each example and of what the model lost on it, says with what to go on. `count` is of new beginnings.

    Its state is a few numbers, and the examples since the sum was 0 last: few, while nothing is wrong.
    """

    def __init__(self, build: Callable[[], Model]) -> None:
        self._build = build
        self.count = 0
        self._seen, self._usual, self._sum = 0, 0.0, 0.0
        self._try_at = FEWEST
        self._alarmed = self._turned = False
        self._since: list[Example] = []

    def after(self, model: Model, vector: dict[str, float], label: bool, loss: float) -> Model:  # noqa: FBT001
        """Return the model to go on with, after it has learned this example; `loss` is of before."""
        self._seen += 1
        lost = min(loss, MOST_LOST)
        if self._seen > WARM_UP:
            self._sum = max(0.0, self._sum + lost - self._usual - MARGIN)
            self._alarmed = self._alarmed or self._sum > ALARM
            self._since.append(Example(vector, label, loss))
        self._usual += (lost - self._usual) / min(self._seen, WINDOW)
        if not self._alarmed and (self._sum == 0.0 or len(self._since) == MOST):
            self._rest()
        return self._tried(model) if self._alarmed and len(self._since) >= self._try_at else model

    def _tried(self, model: Model) -> Model:
        self._turned = self._turned or _lost(self._since) > TURNED * _lost_knowing_the_share(self._since)
        better, fresh = self._held_against_a_new_one() if self._turned else (False, model)
        self.count += better
        self._try_at *= 2
        if self._try_at > MOST:
            self._rest()
        return fresh if better else model

    def _held_against_a_new_one(self) -> tuple[bool, Model]:
        last = len(self._since) - len(self._since) // HELD
        fresh, lost, held = self._learned(self._since[:last]), 0.0, self._since[last:]
        for vector, label, _ in held:
            lost += log_loss(score(fresh, vector), label)
            fresh.learn_one(vector, label)
        return lost < _lost(held), fresh

    def _learned(self, examples: Sequence[Example]) -> Model:
        fresh = self._build()
        for _ in range(PASSES):
            for vector, label, _loss in examples:
                fresh.learn_one(vector, label)
        return fresh

    def _rest(self) -> None:
        """Let it be: what is unusual is told by what comes from now on."""
        self._sum, self._alarmed, self._turned, self._try_at = 0.0, False, False, FEWEST
        self._since.clear()

    def state(self) -> tuple[Any, ...]:
        """Return plain values, whose pickles are the same whenever they are equal."""
        since = [(list(vector.values()), label, loss) for vector, label, loss in self._since]
        return self.count, self._seen, self._usual, self._sum, self._try_at, self._alarmed, self._turned, since

    def load(self, state: tuple[Any, ...], columns: Sequence[str]) -> None:
        self.count, self._seen, self._usual, self._sum, self._try_at, self._alarmed, self._turned, since = state
        self._since = [Example(dict(zip(columns, values, strict=True)), *more) for values, *more in since]


def _lost(examples: Sequence[Example]) -> float:
    return sum(loss for _, _, loss in examples)


def _lost_knowing_the_share(examples: Sequence[Example]) -> float:
    """Return what is lost on them, in nats, by a constant: their own share of positives."""
    positive = sum(label for _, label, _ in examples)
    counts = positive, len(examples) - positive
    return sum(count * math.log(len(examples) / count) for count in counts if count)
