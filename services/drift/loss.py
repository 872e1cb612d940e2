"""Loss: whether a model loses more than it did, overall or for one value of a sliced feature; labels tell.

Losing less is no alert. The whole has half of the false alarms that are allowed, its slices share the other half. While
the whole stands, its slices explain it and raise nothing of their own.
"""

import math

import numpy as np

from services.drift.by_model import ByModel, ByModelState
from services.drift.example_rows import SERVED, Slices
from services.drift.losses import CLIP
from services.drift.signals import Signal
from services.drift.watching import Verdict, Watch, limits
from services.runtime.alerts import Explained, Severity
from services.runtime.stream import Stream
from services.runtime.summaries import LOSS, LOSS2, ExampleSummary, Judged, Source

TOLERANCE = 0.05  # of the loss: a rise by less is nobody's alarm
GRAVE = 1.5  # what is served loses so many times what it did
NAMED = 5  # slices of an alert


class Loss:
    """`apart` is how many summaries there are to be between false alarms, on average, all subjects together."""

    def __init__(self, stream: Stream, apart: float, settle: float) -> None:
        self._slices = Slices(stream).names
        shares = [0.5, *(0.5 / len(self._slices) for _ in self._slices)]
        bound = -math.log(CLIP)

        def make(share: float) -> Watch:
            return Watch(np.array([limits(apart / share / one, TOLERANCE, bound) for one in shares]), settle)

        self._models = ByModel(make)

    def fold(self, summary: ExampleSummary) -> list[Signal]:
        return [signal for one in summary.models for signal in self._fold(one, summary.source)]

    def _fold(self, judged: Judged, source: Source) -> list[Signal]:
        watch, values = self._models[judged.model], np.empty((1 + len(self._slices), 3))
        sums = np.frombuffer(judged.sums)
        values[0] = judged.rows, sums[LOSS], sums[LOSS2]
        values[1:] = np.frombuffer(judged.slices).reshape(-1, 3)
        if not watch.fold(values, source):
            return []
        whole = watch.verdict(0)
        said = [(subject, watch.verdict(subject)) for subject in watch.speaking()]
        if whole.calm:
            for subject, _ in said[1:]:
                watch.end(subject, settled=whole.settled)
        return [self._signal(judged.model, subject, verdict, whole, source) for subject, verdict in said]

    def _signal(self, model: str, subject: int, verdict: Verdict, whole: Verdict, source: Source) -> Signal:
        """Say it. What stands of a slice is over with the whole: if it is not, it is seen again by itself."""
        named = self._slices[subject - 1] if subject else ""
        grave: Severity = "critical" if model == SERVED and verdict.after >= GRAVE * verdict.before else "warning"
        return Signal(
            "loss",
            model,
            verdict.alarm and not (subject and (whole.stands or whole.calm)),
            verdict.calm or whole.calm,
            source.end,
            verdict.since,
            verdict.statistic,
            verdict.strength,
            _reason(model, named, verdict),
            grave,
            named,
            slices=[] if subject else self._ranked(model),
            lost=verdict.after - verdict.before,
            retrain_from=verdict.since.time,
        )

    def _ranked(self, model: str) -> list[Explained]:
        rises = self._models.watches[model].rises()[1:]
        return [
            Explained(self._slices[place], "rise of loss", float(rises[place]))
            for place in np.argsort(-rises, kind="stable")[:NAMED].tolist()
            if rises[place] > 0
        ]

    def view(self) -> dict[str, object]:
        """Return what each model loses of late, and what it lost before, in nats."""
        verdicts = {model: watch.verdict(0) for model, watch in self._models.watches.items()}
        return {
            model: {"before": one.before, "lately": one.lately, "error": one.error, "strength": one.strength}
            for model, one in verdicts.items()
        }

    def state(self) -> ByModelState:
        return self._models.state()

    def load(self, state: ByModelState) -> None:
        self._models.load(state)


def _reason(model: str, named: str, verdict: Verdict) -> str:
    where = f" for {named}" if named else ""
    if verdict.calm:
        how = "has lasted, and is what is normal from now on" if verdict.settled else "is over"
        return f"{model} loses {verdict.lately:.3f} nats{where}: the rise {how}"
    return f"{model} loses {verdict.after:.3f} nats{where} since the change, {verdict.before:.3f} before it"
