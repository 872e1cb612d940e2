"""A training run: what it hands out, that it goes on where it was interrupted, and that it is alone."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from infra import cli
from infra.chaos.learner import examples as recorded
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Retry, Stop
from services.runtime.grammar import BatchRule, OneHot
from services.runtime.records import Record
from services.runtime.signing import make_keys
from services.runtime.stream import Stream, load_stream
from services.trainer import training
from services.trainer.cards import Card
from services.trainer.checkpoints import Checkpoints
from services.trainer.core import Epoch
from services.trainer.rows import TrainingSet
from services.trainer.store import ExampleStore
from tests import lessons

SCHEMAS = Path(__file__).parents[2] / "schemas"
ROWS, KEYS = 600, 3


def stream(kind: str = "mlp") -> Stream:
    batch = BatchRule(kind=kind, width=8, depth=1, epochs=4, patience=4, batch_size=64)  # type: ignore[arg-type]
    features = lessons.PIPELINE.features | {"hot": OneHot(of="kind", values=["a", "b"])}
    pipeline = msgspec.structs.replace(lessons.PIPELINE, features=features, batch=batch)
    return msgspec.structs.replace(lessons.STREAM, pipeline=pipeline, columns=("x", "y", "z", "hot=a", "hot=b"))


def lesson(rows: int = ROWS) -> TrainingSet:
    rng = np.random.default_rng(1)
    numbers, hot = rng.standard_normal((rows, 3)), rng.integers(0, 2, rows)
    features = np.column_stack([numbers, hot == 0, hot == 1]).astype(np.float32)
    labels = (numbers[:, 0] * (2 * hot - 1) > 0.5).astype(np.float32)
    times, codes = np.arange(rows), rng.integers(0, KEYS, rows)
    return TrainingSet(7, stream().columns, features, labels, times, times + 1, ("a", "b", "c"), codes)


def nothing(_: Epoch, __: int) -> None: ...


def kept(data: Path) -> Checkpoints:
    return Checkpoints(data, "made")


@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_a_run_hands_out_a_graph_and_its_card(tmp_path: Path, kind: str) -> None:
    """The same examples give the same graph; the card names their version and what a prior would lose."""
    graph, card = training.run(stream(kind), lesson(), kept(tmp_path / "a"), "cpu", nothing)
    again, _ = training.run(stream(kind), lesson(), kept(tmp_path / "b"), "cpu", nothing)
    assert graph == again
    assert (card.table_version, card.rows, card.feature_set, card.device) == (7, ROWS, "made:0", "cpu")
    assert (card.newest, card.servable, bool(card.obstacle)) == (ROWS - 1, kind == "mlp", kind == "gru")
    assert (card.recipe["kind"], card.epochs, 1 <= card.best_epoch <= 4) == (kind, 4, True)
    rule = stream().pipeline.batch
    assert rule is not None
    share = lesson().labels[: ROWS - int(ROWS * rule.validation) - int(ROWS * rule.calibration)].mean()
    latest = lesson().labels[-int(ROWS * rule.calibration) :].mean()
    assert card.prior_loss == pytest.approx(-latest * math.log(share) - (1 - latest) * math.log(1 - share), rel=1e-5)
    assert msgspec.json.decode(msgspec.json.encode(card), type=Card) == card


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """From the epoch that had ended, and comes to the same graph; a checkpoint of other examples is passed over."""
    whole, _ = training.run(stream(), lesson(), kept(tmp_path / "whole"), "cpu", nothing)
    seen: list[int] = []

    def interrupted(epoch: Epoch, of: int) -> None:
        assert of == 4
        seen.append(epoch.number)
        if seen == [1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.run(stream(), lesson(), kept(tmp_path / "part"), "cpu", interrupted)
    graph, _ = training.run(stream(), lesson(), kept(tmp_path / "part"), "cpu", interrupted)
    assert (seen, graph) == ([1, 2, 3, 4], whole)
    kept(tmp_path / "part").discard()
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        training.run(stream(), lesson(), kept(tmp_path / "part"), "cpu", interrupted)
    training.run(stream(), lesson(ROWS - 1), kept(tmp_path / "part"), "cpu", lambda epoch, _: seen.append(epoch.number))
    assert seen == [1, 2, 1, 2, 3, 4]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second one is refused, and none is kept out by one that ended."""
    with training.alone(tmp_path), pytest.raises(Retry, match="another training is at work"), training.alone(tmp_path):
        pass
    with training.alone(tmp_path):
        pass


def test_too_little_to_learn_from_is_said(tmp_path: Path) -> None:
    """Examples of one class, or too few for all parts: Stop, with the reason."""
    with pytest.raises(Stop, match=r"made can't be trained on yet: 3 examples are too few"):
        training.run(stream(), lesson(3), kept(tmp_path), "cpu", nothing)


# The command


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Return where a run of flights has left some 900 examples."""
    data, flights = tmp_path / "flights" / "data", load_stream(SCHEMAS, "flights")
    make_keys(data / "keys")
    outgoing = enumerate(recorded(flights, 900))
    records = [Record(out.topic, 0, offset, None, out.value, headers=out.headers) for offset, out in outgoing]
    ExampleStore(str(data / "store"), flights).append(0, records)
    return tmp_path


def test_the_command_signs_a_graph_with_a_card(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`thalweg train`: the artifact is read under its name, the card stands beside it, and epochs are told."""
    assert cli.main(["train", "--run-dir", str(run_dir), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "epoch 1 of " in said.err
    assert "flights batch@1: log loss " in said.out
    assert len(Artifacts(run_dir / "flights" / "data", "flights").read("batch", 1)) > 10_000
    card = run_dir / "flights" / "data" / "artifacts" / "flights" / "batch" / "1.json"
    assert msgspec.json.decode(card.read_bytes(), type=Card).rows > 800
    assert card.with_suffix(".run").exists(), "not in MLflow"


def test_the_command_says_which_version_there_is_not(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, and what to do."""
    assert cli.main(["train", "--run-dir", str(run_dir), "--version", "99"]) == 1
    assert "version 99 can't be read" in capsys.readouterr().err
