"""Point-in-time correctness, on real flights: no row of a training set knows anything from after its event."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from infra.chaos.learner import examples
from infra.local.replayer import Timed, records
from services.features.core import FeaturesCore
from services.runtime.frames import rows
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import features_frame
from services.runtime.stream import load_stream
from services.trainer.rows import TrainingSet
from services.trainer.store import ExampleStore

ROOT = Path(__file__).parents[2]
STREAM = load_stream(ROOT / "schemas", "flights")
FRAME = features_frame(STREAM)
EVENTS, SAMPLE = 1500, 40


def events() -> Iterator[dict[str, Any]]:
    """Yield the flights of which the examples are made, in the order of the log."""
    timed = records(ROOT / "schemas", STREAM.name, EVENTS)
    return (record for _, kind, record in timed if kind == "event")


def folded(log: list[dict[str, Any]]) -> pa.Table:
    """Return the features of a log, by a core that has seen nothing else."""
    topic = STREAM.topic("events")
    sent = [Record(topic, 0, n, event["origin"].encode(), msgspec.json.encode(event)) for n, event in enumerate(log)]
    found = [out for out in FeaturesCore(STREAM, 0).fold(sent) if out.topic == STREAM.topic("features")]
    return pa.Table.from_batches([FRAME.decode(read(out)) for out in found]).combine_chunks()


def read(out: Outgoing, offset: int = 0) -> Record:
    return Record(out.topic, 0, offset, out.key, out.value, headers=out.headers)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, list[str]]:
    """Return the training set that these flights and their labels end in, and the event's id of each row."""
    store = ExampleStore(str(tmp_path_factory.mktemp("store")), STREAM)
    sent = [read(out, offset) for offset, out in enumerate(examples(STREAM, EVENTS))]
    for at in range(0, len(sent), 10):
        store.append(0, sent[at : at + 10])
    table = store._read(store.version()).sort_by([("event_time", "ascending"), ("offset", "ascending")])
    return store.training_set(), table["event_id"].to_pylist()


def test_a_row_is_that_of_the_log_cut_after_its_event(stored: tuple[TrainingSet, list[str]]) -> None:
    """Had nothing happened after the event, its features would be the same bytes: for a sample of rows."""
    found, ids = stored
    log = list(events())
    place = {event["event_id"]: n for n, event in enumerate(log)}
    assert len(found) > EVENTS - 100
    for row in np.random.default_rng(1).choice(len(found), SAMPLE, replace=False):
        cut = folded(log[: place[ids[row]] + 1])
        assert cut["event_id"][-1].as_py() == ids[row]
        assert rows(cut["features"].chunk(0))[-1].tobytes() == found.features[row].tobytes()


def turned(*where: Any) -> Iterator[Timed]:
    """Return the recorded data with every label turned round, and known an hour later."""
    for at, kind, record in records(*where):
        yield at, kind, (turn(record) if kind == "label" else record)


def turn(label: dict[str, Any]) -> dict[str, Any]:
    later = dt.datetime.fromisoformat(label["landed_at"]) + dt.timedelta(hours=1)
    return label | {"late": not label["late"], "arrival_delay_min": -999.0, "landed_at": later.isoformat()}


def test_no_feature_knows_a_label(
    stored: tuple[TrainingSet, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every label turned round, and known an hour later, there are the same examples with the same features."""
    found, _ = stored
    monkeypatch.setattr("infra.chaos.learner.records", turned)
    store = ExampleStore(str(tmp_path), STREAM)
    store.append(0, [read(out, offset) for offset, out in enumerate(examples(STREAM, EVENTS))])
    other = store.training_set()
    assert other.features.tobytes() == found.features.tobytes()
    assert other.event_times.tobytes() == found.event_times.tobytes()
    assert (other.labels == 1 - found.labels).all()
    assert (other.label_times == found.label_times + 3_600_000_000).all()


def test_what_is_known_of_a_label_is_no_column(stored: tuple[TrainingSet, list[str]]) -> None:
    """The vector has the stream's columns, and none of them is the label's, its time, or how it came about."""
    found, _ = stored
    label = STREAM.pipeline.label
    assert found.columns == STREAM.columns
    assert not {label.field, label.time, "label", "label_time", "outcome"} & set(found.columns)


def test_a_run_knows_only_labels_from_before_it(tmp_path: Path) -> None:
    """A flight that was in the air at the time is not among the examples of that time, though it had departed."""
    store = ExampleStore(str(tmp_path), STREAM)
    store.append(0, [read(out, offset) for offset, out in enumerate(examples(STREAM, EVENTS))])
    found = store.training_set()
    until = int(np.sort(found.label_times)[len(found) // 2])
    departed, landed = found.event_times <= until, found.label_times <= until
    assert (departed & ~landed).sum() > 10
    assert store.training_set(until=until).features.tobytes() == found.features[landed].tobytes()
