"""The versions of the models, and the evidence on each challenger as it gathers. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.runtime.chronicle import Chronicle
from services.runtime.models import BATCH, ONLINE, Weighed, decode_event
from services.runtime.records import Record
from services.runtime.stream import Stream

SHOWN = 40  # versions, the newest
POINTS = 200  # of a version's evidence


class Versions:
    """Folds `models`."""

    def __init__(self, stream: Stream) -> None:
        self._chronicle = Chronicle(stream.feature_set)
        self._evidence: dict[int, list[tuple[int, float, float]]] = {}

    def fold(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                event = decode_event(record.value)
            except msgspec.MsgspecError:  # of another version of the service
                continue
            self._chronicle.fold(record)
            if isinstance(event, Weighed):
                for version, found in event.evidence.items():
                    self._note(version, found)

    def _note(self, version: int, found: tuple[int, float, float]) -> None:
        points = self._evidence.setdefault(version, [])
        if points and points[-1][0] > found[0]:
            points.clear()  # it is held against another rival now
        if not points or points[-1][0] != found[0]:
            points.append(found)
        if len(points) > POINTS:
            del points[1:-1:2]
        while len(self._evidence) > SHOWN:
            del self._evidence[min(self._evidence)]

    @property
    def champion(self) -> int | None:
        return self._chronicle.lineup.champion

    def view(self) -> dict[str, Any]:
        lineup = self._chronicle.lineup
        online = [] if lineup.online is None else [self._online(lineup.online)]
        return {"versions": [*online, *(self._batch(version) for version in sorted(lineup.candidates)[::-1][:SHOWN])]}

    def _online(self, version: int) -> dict[str, Any]:
        return {
            "name": f"{ONLINE}@{version}",
            "state": "live",
            "since": self._chronicle.online_since,
            "by": "learner",
            "reason": "it learns as labels land",
            "weight": None,
            "evidence": [],
            "card": {},
        }

    def _batch(self, version: int) -> dict[str, Any]:
        lineup, step = self._chronicle.lineup, self._chronicle.since(version)
        candidate = lineup.candidates[version]
        registered = candidate.registered
        return {
            "name": f"{BATCH}@{version}",
            "state": candidate.state,
            "since": step.time,
            "by": step.actor,
            "reason": step.reason,
            "weight": lineup.weight(version),
            "share": candidate.share,
            "evidence": self._evidence.get(version, []),
            "card": {
                "examples": registered.examples,
                "loss": registered.loss,
                "prior_loss": registered.prior_loss,
                "by": registered.by,
            },
        }
