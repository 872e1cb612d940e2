"""How fast the batch network trains against a bare loop over tensors on the same device, and what it is worth.

    .venv/bin/python loadtests/train.py [--events N] [--kind mlp gru] [--device cuda] [--rounds N] [--trainings N]

Real flights through the feature engine, joined with their labels. `train_speed.py` says how speed is compared, and
runs without the rest of Thalweg.

Then quality, on the last fifth of the events: networks trained on what had its label when that fifth began, and trained
anew later if `--trainings` says more than one, in as many equal spans. Beside them the share of true labels known when
the fifth began, and the stream's online model, which predicts each event before learning it: once learning on as it
does in service, once frozen when the fifth begins, as a network is.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from train_speed import compare, described

from infra.local.quality import quality
from infra.local.replayer import records
from infra.local.stack import REPOSITORY
from services.features.core import FeaturesCore
from services.learner.model import build_model
from services.runtime.frames import rows
from services.runtime.onnx_session import open_session
from services.runtime.records import Record
from services.runtime.river_score import score
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream, load_stream
from services.trainer.core import Recipe, Trained, train
from services.trainer.examples import Examples
from services.trainer.export import INPUT, OUTPUT, export
from services.trainer.networks import Floats, Ints, history, side_by_side
from services.trainer.recipe import layout, recipe
from services.trainer.stepping import Placement

BATCH = 2000  # events folded at once
LAST = 0.2  # of the events, on which quality is measured


@dataclass(frozen=True)
class Flights:
    """Events in order of event time. `story` is the log's order: (row, None) an event, (row, its label) a label."""

    vectors: Floats
    entities: Ints
    labels: NDArray[np.float64]  # NaN where none ever came
    known: NDArray[np.float64]  # when the label came
    times: NDArray[np.float64]
    story: list[tuple[int, bool | None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int)
    parser.add_argument("--kind", nargs="+", default=["mlp", "gru"], choices=["mlp", "gru"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=1)
    given = parser.parse_args()
    stream = load_stream(REPOSITORY / "schemas", "flights")
    flights = fold(stream, given.events)
    print(f"{len(flights.times):,} flights, {int((~np.isnan(flights.labels)).sum()):,} with a label")
    print(f"device: {described(given.device)}; PyTorch {torch.__version__}")
    recipes = [replace(recipe(stream), kind=kind) for kind in given.kind]
    for one in recipes:
        compare(examples(flights, np.inf), layout(stream), one, given.device, given.rounds)
    worth(stream, flights, recipes, given.device, given.trainings)


# The stream in process


def fold(stream: Stream, events: int | None) -> Flights:
    """Return the stream's events as `features` and `labels` would join them, no broker in between."""
    story: list[tuple[int, bool | None]] = []
    place: dict[str, int] = {}
    sent, times, told = list[Record](), list[float](), list[tuple[int, float, bool]]()
    for when, kind, record in records(REPOSITORY / "schemas", stream.name, events):
        name = record[stream.pipeline.stream.id]
        if kind == "event":
            place[name] = len(sent)
            story.append((len(sent), None))
            value = msgspec.json.encode(record)
            sent.append(Record(stream.topic("events"), 0, len(sent), record[stream.key].encode(), value))
            times.append(when)
        else:
            label = bool(record[stream.pipeline.label.field])
            story.append((place[name], label))
            told.append((place[name], when, label))
    labels, known = np.full(len(sent), np.nan), np.full(len(sent), np.inf)
    for row, when, label in told:
        labels[row], known[row] = label, when
    vectors = np.concatenate(list(folded(stream, sent)))
    _, entities = np.unique([record.key for record in sent], return_inverse=True)
    return Flights(vectors, entities.astype(np.int64), labels, known, np.array(times), story)


def folded(stream: Stream, sent: list[Record]) -> Iterator[Floats]:
    core, frame, topic = FeaturesCore(stream, 0), features_frame(stream), stream.topic("features")
    for first in range(0, len(sent), BATCH):
        for out in core.fold(sent[first : first + BATCH]):
            assert out.topic == topic, out.topic
            batch = frame.decode(Record(out.topic, 0, 0, out.key, out.value, 0, out.headers))
            yield rows(batch.column("features")).astype(np.float32, copy=False)


def examples(flights: Flights, before: float) -> Examples:
    """Return what could be learned from at that moment: rows whose label had come, in order of event time."""
    chosen = flights.known < before
    labels = flights.labels[chosen].astype(np.float32)
    return Examples(np.ascontiguousarray(flights.vectors[chosen]), labels, flights.entities[chosen])


# Worth


def worth(stream: Stream, flights: Flights, recipes: list[Recipe], device: str, trainings: int) -> None:
    first = int(len(flights.times) * (1 - LAST))
    known = flights.known < flights.times[first]
    tested = labelled(flights, first, len(flights.times))
    print(f"quality on the last {len(tested):,} flights with a label; {int(known.sum()):,} had theirs before")
    told(flights, tested, "prior", np.full(len(flights.times), flights.labels[known].mean()))
    online = prequential(stream, flights, len(flights.times))
    told(flights, tested, "online", online)
    told(flights, tested, "online, frozen", prequential(stream, flights, first))
    for how in recipes:
        told(flights, tested, how.kind, trained_anew(stream, flights, how, device, trainings))
    told(flights, labelled(flights, 0, len(flights.times)), "online, whole", online)


def labelled(flights: Flights, first: int, end: int) -> Ints:
    return np.arange(first, end)[~np.isnan(flights.labels[first:end])]


def trained_anew(stream: Stream, flights: Flights, how: Recipe, device: str, trainings: int) -> NDArray[np.floating]:
    """Return scores of the last part, each span's by a network trained on what was known when it began."""
    found = np.full(len(flights.times), np.nan)
    cuts = np.linspace(len(flights.times) * (1 - LAST), len(flights.times), trainings + 1).astype(int)
    for first, end in pairwise(cuts.tolist()):
        start = time.perf_counter()
        trained = train(examples(flights, flights.times[first]), layout(stream), how, Placement(device))
        print_training(how, trained, time.perf_counter() - start)
        tested = labelled(flights, first, end)
        found[tested] = served(trained, flights, tested)
    return found


def told(flights: Flights, tested: Ints, name: str, probabilities: NDArray[np.floating]) -> None:
    found = quality(probabilities[tested].tolist(), (flights.labels[tested] > 0).tolist())
    print(f"  {name:<14} log loss {found.log_loss:.4f}   ROC AUC {found.roc_auc:.4f}   accuracy {found.accuracy:.4f}")


def print_training(how: Recipe, trained: Trained, taken: float) -> None:
    best, (before, after) = trained.best, trained.calibration_loss
    validation, heat = trained.losses[best - 1][1], trained.network.temperature.item()
    print(
        f"    {how.kind}: {len(trained.losses)} epochs in {taken:.0f} s, best {best}: validation {validation:.4f};",
        end="",
    )
    print(f" temperature {heat:.3f}: calibration {before:.4f} to {after:.4f}")


def served(trained: Trained, flights: Flights, tested: Ints) -> NDArray[np.floating]:
    """Return the scores of the rows tested, as the exported graph gives them."""
    places = history(flights.entities, trained.network.shape.vectors)[tested]
    inputs = side_by_side(flights.vectors, places)
    session = open_session(export(trained.network, inputs))
    return np.asarray(session.run([OUTPUT], {INPUT: inputs})[0])


def prequential(stream: Stream, flights: Flights, frozen: int) -> NDArray[np.floating]:
    """Return the online model's score of each event, by the examples whose label had come before it.

    From the event `frozen` on it learns no more.
    """
    model, found = build_model(stream.pipeline.online.model), np.zeros(len(flights.times))
    vectors: dict[int, dict[str, float]] = {}  # of those that wait for their label
    learns = True
    for row, label in flights.story:
        learns = learns and row < frozen
        if label is None:
            vectors[row] = dict(zip(stream.columns, flights.vectors[row].tolist(), strict=True))
            found[row] = score(model, vectors[row])
        elif learns:
            model.learn_one(vectors.pop(row), label)
    return found


if __name__ == "__main__":
    main()
