"""What a question finds on a real broker's log, and that it says so where it could not look through all of it."""

from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest
from confluent_kafka import Producer

from services.console import searching
from services.console.core import ConsoleCore
from services.console.finding import Finding
from services.console.picture import Picture
from services.console.searching import Search, Wanted
from services.console.store import Store
from services.runtime.errors import Retry
from services.runtime.pii import open_masker
from services.runtime.records import Record
from tests.consoles import Log

WRITTEN = 2_500
WHERE = ("features", 1)


@pytest.fixture(scope="module")
def written(log: Log) -> Log:
    """Write many records, the newest of which are one batch: the embedded broker says that the partition ends in it."""
    for start in range(0, WRITTEN, 50):
        log.say(WHERE[0], *(b"%d" % place for place in range(start, start + 50)), partition=WHERE[1])
    return log


def wanted(*places: int) -> Wanted:
    values = {b"%d" % place for place in places}
    return lambda record: record.value in values


def find(log: Log, most: int, *places: int) -> Record | None:
    with searching.searching(log.settings) as search:
        return search.newest(log.stream.topic(WHERE[0]), WHERE[1], most, wanted(*places))


@pytest.mark.parametrize("place", [0, 499, 500, 1499, 1500, 2449, 2450, WRITTEN - 1])
def test_a_record_is_found_wherever_it_stands(written: Log, place: int) -> None:
    """The first, the last, those of the last batch, and those on either side of where one read ended."""
    found = find(written, WRITTEN, place)
    assert found is not None
    assert (found.value, found.offset) == (b"%d" % place, place)


def test_of_several_the_newest_is_found(written: Log) -> None:
    """In one stretch that is read, and in two."""
    for places in ((2_400, 2_499), (10, 2_400), (3, 4)):
        found = find(written, WRITTEN, *places)
        assert found is not None
        assert found.offset == max(places)


def test_what_is_older_than_the_newest_is_not_looked_at(written: Log) -> None:
    """Of the newest hundred, give or take a batch, only those."""
    assert find(written, 100, 2_300) is None
    assert find(written, WRITTEN, WRITTEN) is None


def test_what_stands_at_an_offset_and_behind_it_is_read(written: Log) -> None:
    """To the end, the last batch with it; behind the last record there is nothing."""
    topic = written.stream.topic(WHERE[0])
    with searching.searching(written.settings) as search:
        assert [record.offset for record in search.behind(topic, WHERE[1], 2_440)] == list(range(2_440, WRITTEN))
        assert list(search.behind(topic, WHERE[1], WRITTEN)) == []
        for offset in (0, 77, WRITTEN - 1):
            found = search.at(topic, WHERE[1], offset)
            assert found is not None
            assert found.offset == offset
        assert search.at(topic, WHERE[1], WRITTEN + 77) is None
        assert search.at(topic, 0, 0) is None


def test_who_has_no_time_left_does_not_say_that_there_is_nothing(written: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is there or not, and of a search by halves as well."""
    monkeypatch.setattr(searching, "PATIENCE_S", 0.0)
    questions: list[Callable[[Search, str], object]] = [
        lambda search, topic: search.newest(topic, WHERE[1], WRITTEN, wanted(3)),
        lambda search, topic: search.between(topic, WHERE[1], lambda record: int(record.value) - 3),
        lambda search, topic: list(search.behind(topic, WHERE[1], 3)),
    ]
    for question in questions:
        with searching.searching(written.settings) as search, pytest.raises(Retry, match="within 0 s"):
            question(search, written.stream.topic(WHERE[0]))


def test_an_open_transaction_hides_nothing_that_stands(written: Log) -> None:
    """While one is open the embedded broker says that a partition ends at 0; what it has is found once it is over."""
    topic = written.stream.topic(WHERE[0])
    producer = Producer({"bootstrap.servers": written.settings.broker, "transactional.id": "writer", "log_level": 0})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=WHERE[1])
    assert producer.flush(10) == 0
    ending = Timer(1.0, lambda: producer.commit_transaction(10))
    ending.start()
    found = find(written, WRITTEN, 7)
    ending.join()
    assert found is not None
    assert found.offset == 7


def test_a_label_that_there_is_no_time_to_look_for_hides_no_prediction(
    written: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The story says whether a label was sought; a log that is slow is no label that has not come."""
    stream, settings = written.stream, written.settings
    said = {"prediction": {"late": 0.25}, "scores": {}, "weights": {}, "event_time": "2014-01-01T10:42:00Z"}
    written.say("predictions", said | {"event_id": "slow", "key": "JFK", "source": {"partition": 0, "offset": 5}})
    masker, store = open_masker(stream, tmp_path), Store(tmp_path / "spans.db", 1 << 24)
    picture = Picture(lambda: ConsoleCore(stream, masker.value))
    topics = {kind: stream.topic(kind) for kind in ("predictions", "scored", "labels")}
    finding, newest = Finding(stream, settings, topics, picture, store, masker), Search.newest

    def slow(search: Search, topic: str, partition: int, most: int, wanted: Wanted) -> Record | None:
        if topic == topics["labels"]:
            raise Retry("no time left")
        return newest(search, topic, partition, most, wanted)

    try:
        for sought in (True, False):
            story = finding.find("slow")
            assert story is not None
            assert (story["prediction"]["event_id"], story["label"], story["label_sought"]) == ("slow", None, sought)
            monkeypatch.setattr(Search, "newest", slow)
    finally:
        store.close()
