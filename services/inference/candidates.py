"""The versions of the batch model beside the online one: loaded before they count, asked with every batch, guarded.

A version that can't be loaded, or whose answers can't be served, is withdrawn within the batch that showed it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.inference.guard import Floats, Guard
from services.inference.mix import Beside
from services.inference.triton import Asked, Triton
from services.runtime.clock import Clock
from services.runtime.errors import Refusal, Retry
from services.runtime.models import SCORED, Lineup
from services.runtime.records import Outgoing
from services.runtime.stream import Stream
from services.runtime.waiting import Wait

log = logging.getLogger(__name__)
ACTOR = "inference"
AGAIN_S = 5.0  # a withdrawal that is not on `models` by then is written again
Vectors = NDArray[np.float32]


class Candidates:
    """Those that the line-up says are to be scored. `triton` is the client of `<stream>_batch`."""

    def __init__(self, stream: Stream, triton: Triton, lineup: Lineup, clock: Clock) -> None:
        self._topic, self._latency_s = stream.topic("models"), stream.pipeline.rollout.latency.seconds
        self._none = np.zeros((0, len(stream.columns)), np.float32)
        self._triton, self._lineup, self._clock = triton, lineup, clock
        self._loading: dict[int, Asked] = {}
        self._guards: dict[int, Guard] = {}  # of the versions that are loaded
        self._behind: dict[int, Asked] = {}  # not answered in time, and not yet
        self._failed: dict[int, str] = {}  # why a version is not asked any more, until the line-up knows
        self._told: dict[int, float] = {}  # when that was written

    def load(self) -> None:
        """Have Triton load what is to be scored, while others serve, and drop what is not any more."""
        scored = self._lineup.of(*SCORED)
        for known in (self._loading, self._guards, self._behind, self._failed, self._told):
            for version in [version for version in known if version not in scored]:
                known.pop(version)
        for version in scored:
            if version not in self._guards and version not in self._failed:
                self._load_one(version)

    def ask(self, batches: Sequence[Vectors], contexts: Sequence[str | None] = ()) -> dict[int, Asked | None]:
        """Send the batches to every version that is loaded; None for one that still owes an answer."""
        self._behind = {version: asked for version, asked in self._behind.items() if not asked.answered}
        scored = self._lineup.of(*SCORED)
        ready = [version for version in scored if version in self._guards and version not in self._failed]
        return {v: None if v in self._behind else self._triton.ask(batches, v, contexts) for v in ready}

    def answers(self, asked: Mapping[int, Asked | None], online: Sequence[Floats]) -> dict[int, list[Floats]]:
        """Return each version's scores of each batch: NaN where there are none that could be served.

        `online` are the online model's.
        """
        return {version: self._scores(version, pending, online) for version, pending in asked.items()}

    def beside(self, scores: Mapping[int, Floats], keys: Sequence[str]) -> list[Beside]:
        """Return what the versions add to a batch of rows that have these keys."""
        serving = self._lineup.serving(set(keys), scores)
        return [
            Beside(
                version,
                self._lineup.candidates[version].state,
                weight := self._lineup.weight(version),
                values,
                np.array([weight if serving.get(key) == version else 0.0 for key in keys]),
            )
            for version, values in scores.items()
        ]

    def withdrawn(self) -> Iterator[Outgoing]:
        """Yield the records that withdraw what has failed."""
        now = self._clock.now()
        for version, why in self._failed.items():
            if now < self._told.get(version, -AGAIN_S) + AGAIN_S:
                continue
            self._told[version] = now
            moves = self._lineup.withdraw(version, ACTOR, why)
            for key, move in zip(self._lineup.keys(moves), moves, strict=True):
                yield Outgoing(self._topic, msgspec.json.encode(move), key, partition=0)

    def warm_up(self, wait: Wait) -> None:
        """Wait until every version that is to be scored is loaded, or has failed."""
        self.load()
        while self._loading:
            wait.pause(f"Triton loads version {min(self._loading)} of the batch model")
            self.load()
        wait.over()

    def _load_one(self, version: int) -> None:
        """Ask for no rows: an answer means that it is loaded."""
        if version not in self._loading:
            self._loading[version] = self._triton.ask([self._none], version)
        pending = self._loading[version]
        if not pending.answered:
            return
        del self._loading[version]
        try:
            pending.answers()
        except Refusal as error:
            self._fail(version, f"it can't be loaded: {error}")
        except Retry:
            pass  # Triton is away: it is tried again with the next batch
        else:
            self._guards[version] = Guard(self._latency_s)
            log.info("version %d of the batch model is loaded", version)

    def _scores(self, version: int, pending: Asked | None, online: Sequence[Floats]) -> list[Floats]:
        why: str | None
        try:
            if pending is not None and pending.wait(self._latency_s):
                scores = [answer.values for answer in pending.answers()]
                if (why := self._guards[version].answered(scores, online)) is None:
                    return scores
            else:
                why = self._guards[version].late()
                self._behind.update({} if pending is None else {version: pending})
        except Refusal as error:
            why = f"it can't score: {error}"
        except Retry:
            why = self._guards[version].late()
        if why is not None:
            self._fail(version, why)
        return [np.full(len(values), np.nan) for values in online]

    def _fail(self, version: int, why: str) -> None:
        log.error("version %d of the batch model is withdrawn: %s", version, why)
        self._failed[version] = why
