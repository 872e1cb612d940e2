"""From a version of the table to a version of the model: its number, what is pinned, and what an interruption costs."""

from pathlib import Path

import msgspec
import pytest

from services.runtime.artifacts import Artifacts
from services.runtime.errors import Retry, Stop
from services.runtime.grammar import BatchRule
from services.runtime.signing import make_keys
from services.trainer import fitting, training
from services.trainer.cards import Card, Cards
from services.trainer.checkpoints import NAME
from services.trainer.fitting import Fitting
from services.trainer.store import ExampleStore
from tests.lessons import PIPELINE, STREAM
from tests.stored import records

RULE = BatchRule(width=4, depth=1, epochs=2, patience=2, batch_size=16)
STREAM = msgspec.structs.replace(STREAM, pipeline=msgspec.structs.replace(PIPELINE, batch=RULE))


class Place:
    """A folder with a table that grows, and what is trained on it."""

    def __init__(self, data: Path) -> None:
        self.data, self.log = data, iter(records(100, size=20))
        make_keys(data / "keys")
        self.store = ExampleStore(str(data / "store"), STREAM)
        self.artifacts = Artifacts(data, "made")
        self.fitting = self.started()

    def started(self) -> Fitting:
        """Return what another process would begin with."""
        return Fitting(STREAM, ExampleStore(str(self.data / "store"), STREAM), self.data, "cpu")

    def grow(self, records: int = 1) -> None:
        for _ in range(records):
            self.store.append(0, [next(self.log)])

    @property
    def cards(self) -> list[Card]:
        return Cards(self.artifacts, "made:0").all()

    def interrupt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be killed when there is a version of the model, and before it counts."""

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(fitting.Cards, "add", killed)
            with pytest.raises(KeyboardInterrupt):
                self.fitting.resume("schedule")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.grow(3)
    return place


def test_versions_count_on(place: Place) -> None:
    """Whatever version of the table they pin: one may be trained on twice, and another table counts from 0."""
    first = place.fitting.run("somebody@somewhere", version=2)
    second = place.fitting.run("somebody@somewhere", version=2)
    third = place.started().resume("schedule")
    assert [(card.version, card.table_version) for card in (first, second, third)] == [(1, 2), (2, 2), (3, 3)]
    assert place.cards == [first, second, third]
    assert place.artifacts.read("batch", 1) == place.artifacts.read("batch", 2) != place.artifacts.read("batch", 3)
    assert (first.by, first.rows, third.by, third.rows) == ("somebody@somewhere", 40, "schedule", 60)
    assert third.newest == 59 * 3_600_000_000


def test_what_was_interrupted_goes_on_with_its_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the table has grown: the checkpoint is of that version. The next one takes the newest."""
    place.interrupt(monkeypatch)
    checkpoint = place.data / "training" / "made" / NAME
    assert (place.cards, checkpoint.exists()) == ([], True)
    place.grow()
    trained: list[int] = []
    whole = training.train

    def seen(examples: training.Examples, *more: object, **named: object) -> object:
        trained.append(len(examples.labels))
        assert ("checkpoint" in named) == (len(trained) == 1)
        return whole(examples, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "train", seen)
    assert place.started().resume("schedule").table_version == 3
    assert not checkpoint.exists()
    assert place.started().resume("schedule").table_version == 4
    assert trained == [60, 80]


def test_a_pin_of_another_feature_set_is_passed_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table counts other versions."""
    place.interrupt(monkeypatch)
    pin = place.data / "training" / "made" / "pinned"
    assert pin.read_text() == "made:0@3 schedule"
    pin.write_text("made:1@1 schedule")
    assert place.fitting.resume("schedule").table_version == 3


def test_who_asks_for_another_reason_takes_what_is_newest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert wants what came after its change, which an older version may not have; asked again it has its own."""
    place.interrupt(monkeypatch)
    place.grow(4)
    card = place.fitting.resume("alert:loss-1", since=10 * 3_600_000_000)
    assert (card.table_version, card.by, card.since) == (7, "alert:loss-1", 10 * 3_600_000_000)
    assert (card.window in {"all", *card.windows}, card.newest) == (True, 139 * 3_600_000_000)


def test_examples_that_can_t_be_learned_from_are_not_pinned(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop, and the next call takes what is newest then."""

    def diverged(*_: object, **__: object) -> None:
        raise ValueError("training diverged")

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", diverged)
        with pytest.raises(Stop, match="made can't be trained on yet: training diverged"):
            place.fitting.resume("schedule")
    place.grow()
    assert place.fitting.resume("schedule").table_version == 4


def test_one_at_a_time(place: Place) -> None:
    """A second training of the stream is put off, and says what it waits for."""
    with training.alone(place.data / "training" / "made"):
        for train in (place.fitting.run, place.fitting.resume):
            with pytest.raises(Retry, match=r"another training is at work in .*; wait for it, or stop it"):
                train("somebody")
    assert place.fitting.run("somebody").version == 1


def test_without_its_card_there_is_no_version(place: Place) -> None:
    """A graph that was stored without one has no number; the next takes it, and is what is read then."""
    place.artifacts.write("batch", 1, b"half a version")
    assert place.cards == []
    assert place.fitting.run("somebody").version == 1
    assert len(place.artifacts.read("batch", 1)) > 1000


def test_a_full_disk_is_waited_for(place: Place) -> None:
    """A checkpoint that can't be written is no reason to give up."""
    (place.data / "training" / "made" / f".{NAME}").mkdir(parents=True)
    with pytest.raises(Retry, match="checkpoint can't be written"):
        place.fitting.run("somebody")
