"""After a change: which examples to learn from. Whichever serves best what came last decides, on rows none has seen.

`since` is the event time from which on examples are of the new world. The windows are

* "after": what came from then on, and nothing else;
* "all": what came before, as well;
* "before": a network of what came before, whose logits get the slope and the offset that fit what came from then on
  (Platt, 1999). A few hundred rows tell two numbers well where they are too few for a network; a slope below 0 turns
  its answers round.

The newest quarter of what came after judges: each is fitted on what was known before its first event, and scored. Then
the best is fitted once more with that quarter.
"""

import copy
import logging
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import Stop
from services.runtime.stream import Stream
from services.trainer import training
from services.trainer.calibration import Doubles, log_loss, straightened
from services.trainer.cards import Card, Window
from services.trainer.checkpoints import Checkpoints
from services.trainer.core import Epoch
from services.trainer.networks import scores
from services.trainer.recipe import recipe
from services.trainer.rows import TrainingSet
from services.trainer.training import Fit

FEWEST = 100  # rows after the change; with fewer it is "all"
HELD = 4  # the newest quarter
FLATTEST = 0.05  # a slope nearer to 0 says that the network knows nothing of the new world
SMALLEST = 1e-7  # probabilities are taken no nearer to 0 and 1
log = logging.getLogger(__name__)
OnEpoch = Callable[[Epoch, int], None]


def run(
    stream: Stream, examples: TrainingSet, since: int, kept: Checkpoints, device: str, on_epoch: OnEpoch
) -> tuple[bytes, Card]:
    """Return the graph and the card of the best window, as `training.run` does; the card says what each lost."""
    fits = Fits(stream, examples, since, kept, device, on_epoch)
    losses = dict(fits.judged())
    window: Window = min(losses, key=lambda one: losses[one], default="all")
    log.info("window %s, of what each lost on the newest: %s", window, losses)
    rows, fitted = fits.whole(window)
    graph, card = training.finish(stream, rows, fitted, device)
    return graph, msgspec.structs.replace(card, since=since, window=window, windows={**losses})


class Fits:
    """The fits of one change, on one version of the table."""

    def __init__(
        self, stream: Stream, examples: TrainingSet, since: int, kept: Checkpoints, device: str, on_epoch: OnEpoch
    ) -> None:
        self._stream, self._examples, self._kept, self._device = stream, examples, kept, device
        self._on_epoch = on_epoch
        self._first = examples.first_of(since)
        self._held = len(examples) - (len(examples) - self._first) // HELD
        self._before: Fit | None = None

    def judged(self) -> Iterator[tuple[Window, float]]:
        """Yield what each window lost on the rows that are held out; one that can't be learned from is left out."""
        if len(self._examples) - self._first < FEWEST:
            return
        known = self._known()
        for window, some in self._windows(known):
            try:
                fitted = self._fit(window, some)
                if window == "before":
                    self._before = fitted
                    fitted = self._straightened(fitted, self._after() & known)
            except Stop as error:
                log.info("no version on window %s: %s", window, error)
            else:
                yield window, self._loss(fitted)

    def whole(self, window: Window) -> tuple[TrainingSet, Fit]:
        """Return a window with all its rows, and what was fitted on them."""
        if window == "before" and self._before is not None:
            return self._examples, self._straightened(self._before, self._after())
        rows = self._examples.only(slice(self._first if window == "after" else 0, None))
        return rows, training.fit(self._stream, rows, self._kept.of(), self._device, self._on_epoch)

    def _known(self) -> NDArray[np.bool_]:
        """Say of which rows the label was known before the first event that is held out."""
        early = np.arange(len(self._examples)) < self._held
        known: NDArray[np.bool_] = self._examples.label_times <= self._examples.event_times[self._held]
        return early & known

    def _after(self) -> NDArray[np.bool_]:
        return np.arange(len(self._examples)) >= self._first

    def _windows(self, known: NDArray[np.bool_]) -> list[tuple[Window, NDArray[np.bool_]]]:
        after = self._after()
        return [("after", known & after), ("before", known & ~after), ("all", known)]

    def _fit(self, name: str, chosen: NDArray[np.bool_]) -> Fit:
        rows, checkpoint = self._examples.only(chosen), self._kept.of(name)
        try:
            return training.fit(self._stream, rows, checkpoint, self._device, self._on_epoch)
        except ValueError as error:  # too few to be split
            raise Stop(str(error)) from error

    def _loss(self, fitted: Fit) -> float:
        held = slice(self._held, None)
        return log_loss(self._logits(fitted)[held], self._examples.labels[held].astype(float))

    def _logits(self, fitted: Fit) -> Doubles:
        rows = training.inputs(self._examples, recipe(self._stream))[self._first :]
        said = np.clip(scores(fitted.trained.network, rows).astype(float), SMALLEST, 1 - SMALLEST)
        return np.concatenate([np.zeros(self._first), np.log(said) - np.log1p(-said)])

    def _straightened(self, fitted: Fit, chosen: NDArray[np.bool_]) -> Fit:
        """Return the same network with slope and offset of these rows, which it has not seen."""
        logits, labels = self._logits(fitted)[chosen], self._examples.labels[chosen].astype(float)
        slope, offset = straightened(logits, labels)
        if abs(slope) < FLATTEST:
            raise Stop(f"what came before says nothing of what came after: the slope is {slope:.3f}")
        trained = copy.deepcopy(fitted.trained)
        temperature = float(trained.network.temperature)
        trained.network.shift -= offset * temperature / slope
        trained.network.temperature.fill_(temperature / slope)
        return Fit(trained, fitted.share, self._examples.only(chosen), slope * logits + offset)
