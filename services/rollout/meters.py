"""How good each model is on the newest labelled events: losses and counts that only grow, for any window to be of.

A version is told by the role that it has, of which there are few; not by its number, of which there is no end.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.rollout.deciding import Deciding
from services.rollout.evidence import Array, log_losses
from services.runtime.metrics import Found, Metrics
from services.runtime.models import BATCH, ONLINE, SCORED
from services.runtime.records import Record
from services.runtime.schemas import examples_frame, labelled
from services.runtime.stream import Stream

SERVED = "served"
PRIOR = "prior"  # what guessing by how frequent a label of 1 was since the process began would lose
ROLES = (
    (PRIOR, "baseline"),
    (SERVED, SERVED),
    (ONLINE, ONLINE),
    *((BATCH, state) for state in SCORED),
)
STATES = ("registered", *SCORED, "retired")


class Qualities:
    """Adds up what examples tell, each with its first label, once they are committed."""

    def __init__(self, metrics: Metrics, stream: Stream, stage: Deciding) -> None:
        self._frame = examples_frame(stream)
        labels = ("model", "role")
        name, said = "thalweg_model_examples_total", "Labelled events that a model had scored."
        self._examples = metrics.counter(name, said, labels)
        name, said = "thalweg_model_loss_nats_total", "Log loss of a model on them, added up."
        self._losses = metrics.counter(name, said, labels)
        for role in ROLES:
            self._examples.labels(*role)
            self._losses.labels(*role)
        self._stage = stage
        self._ones, self._rows = 0.0, 0
        metrics.told("thalweg_model_versions", "Versions of the batch model.", self._versions, ("state",))

    def after(self, records: Sequence[Record]) -> None:
        for record in records:
            batch = labelled(self._frame.decode(record))
            self._fold(batch.filter(batch.column("retracts").is_null()))

    def _fold(self, batch: pa.RecordBatch) -> None:
        labels = _floats(batch.column("label"))
        self._add((PRIOR, "baseline"), self._guess(labels), labels)
        self._add((SERVED, SERVED), _floats(batch.column("served")), labels)
        self._add((ONLINE, ONLINE), _floats(batch.column("online").field("score")), labels)
        entries = pc.list_flatten(batch.column("batch"))
        if not len(entries):
            return
        asked = labels[np.asarray(pc.list_parent_indices(batch.column("batch")))]
        scores = _floats(entries.field("score"))
        states = entries.field("state")
        for state in SCORED:
            mine = np.asarray(pc.equal(states, state).to_numpy(zero_copy_only=False), np.bool_)
            self._add((BATCH, state), scores[mine], asked[mine])

    def _guess(self, labels: Array) -> Array:
        """Return the share of 1 among the labels before these, for each of them."""
        share = (self._ones + 1) / (self._rows + 2)
        self._ones, self._rows = self._ones + labels.sum(), self._rows + len(labels)
        return np.full(len(labels), share)

    def _add(self, role: tuple[str, str], scores: Array, labels: Array) -> None:
        known = ~np.isnan(scores)
        if known.any():
            self._examples.labels(*role).inc(int(known.sum()))
            self._losses.labels(*role).inc(float(log_losses(scores[known], labels[known]).sum()))

    def _versions(self) -> Found:
        counts = dict.fromkeys(STATES, 0)
        for state in self._stage.states():
            counts[state] += 1
        return {(state,): float(count) for state, count in counts.items()}


def _floats(column: pa.Array) -> Array:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
