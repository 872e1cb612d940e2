"""Dead letters read and sent through again: which are chosen, what is sent, and that nothing is sent twice."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.replay import dead_letters
from services.replay.dead_letters import Choice, Replay, read_letters
from services.replay.verify import Span, verify
from services.runtime.dead_letters import DeadLetter, Replayed, dead_letter, decode_dead_letter, replay_letter
from services.runtime.errors import Reject, Stop
from services.runtime.memory import HISTORY_BATCH, MemoryHistory, MemoryLog
from services.runtime.records import Outgoing, Position, Record
from tests.recorded import PARTITIONS, STREAM, Recorded, flight, label, outgoing

TOPIC = "flights.dead-letter"
REFUSED = [  # service, reason, topic, partition, offset, key, value
    ("features", "json", "flights.events", 0, 3, b"EWR", b"\xff{"),
    ("features", "key", "flights.events", 1, 5, b"LGA", json.dumps(flight(1)).encode()),
    ("labels", "json", "flights.labels", 0, 3, None, b""),
    ("features", "clock", "flights.events", 0, 9, b"JFK", json.dumps(flight(2)).encode()),
]


def made(*letters: tuple[Any, ...]) -> MemoryLog:
    """Return a log with these dead letters, the n-th refused at second n."""
    log = MemoryLog(partitions=2)
    for n, (service, reason, topic, partition, offset, key, value) in enumerate(letters):
        record = Record(topic, partition, offset, key, value)
        log.append(dead_letter(TOPIC, service, record, Reject(reason, "why")))
        records = log.topics[Position(TOPIC, 0)]
        records[-1] = msgspec.structs.replace(records[-1], timestamp=1000 * n)
    return log


def chosen(log: MemoryLog, choice: Choice = Choice()) -> list[str]:  # noqa: B008 - it is frozen
    return [listed.letter.place for listed in read_letters(MemoryHistory(log), STREAM, choice)]


PLACES = ["flights.events/0/3", "flights.events/1/5", "flights.labels/0/3", "flights.events/0/9"]


@pytest.mark.parametrize(
    ("choice", "places"),
    [
        (Choice(), PLACES),
        (Choice(reason="json"), [PLACES[0], PLACES[2]]),
        (Choice(service="labels"), [PLACES[2]]),
        (Choice(reason="json", service="features"), [PLACES[0]]),
        (Choice(place=PLACES[1]), [PLACES[1]]),
        (Choice(place="flights.events/0"), []),
        (Choice(span=Span(1_000_000, 3_000_000)), PLACES[1:3]),
        (Choice(span=Span(start=3_000_000)), PLACES[3:]),
    ],
)
def test_letters_are_chosen(choice: Choice, places: list[str]) -> None:
    """By reason, service, place, and the time at which they were refused, its end left out; in order."""
    assert chosen(made(*REFUSED), choice) == places


def replay(log: MemoryLog, choice: Choice = Choice(), *, fix_keys: bool = False) -> list[list[Outgoing]]:  # noqa: B008
    """Replay into the log; return what went into each transaction."""
    transactions: list[list[Outgoing]] = []

    def write(outgoing: Sequence[Outgoing]) -> None:
        transactions.append(list(outgoing))
        for out in outgoing:
            log.append(out)

    history = MemoryHistory(log)
    sent = [*Replay(STREAM, fix_keys=fix_keys).run(read_letters(history, STREAM, choice), write)]
    assert [letter.place for letter in sent] == [
        out.key.decode() for found in transactions for out in found if out.topic == TOPIC and out.key
    ]
    return transactions


def test_original_bytes_go_to_where_they_came_from() -> None:
    """Key and value as they were, on their partition, with the header; and beside each the mark, under its place."""
    (transaction,) = replay(made(*REFUSED))
    originals, marks = transaction[::2], transaction[1::2]
    assert [(out.topic, out.partition, out.key, out.value) for out in originals] == [
        (topic, partition, key, value) for _, _, topic, partition, _, key, value in REFUSED
    ]
    assert [out.headers for out in originals] == [[("thalweg-replayed", place.encode())] for place in PLACES]
    assert [(out.topic, out.partition, out.key) for out in marks] == [(TOPIC, 0, place.encode()) for place in PLACES]
    assert [json.loads(out.value)["event"] for out in marks] == ["replayed"] * 4


def test_nothing_is_sent_twice() -> None:
    """Not by a second replay, whatever it chooses, and not where a letter stands there twice."""
    log = made(*REFUSED, REFUSED[0])
    assert len(replay(log, Choice(reason="json"))[0]) == 4
    assert [listed.replayed for listed in read_letters(MemoryHistory(log), STREAM, Choice())] == [
        True, False, True, False, True,
    ]  # fmt: skip
    assert len(replay(log)[0]) == 4
    assert replay(log) == []
    assert len(log.read("flights.events")) == 3


def test_what_is_refused_again_is_a_letter_of_its_own() -> None:
    """Its new place is not marked, so it may be sent again; a replay does not meet what it sends itself."""
    log = made(REFUSED[0])
    replay(log)
    log.append(dead_letter(TOPIC, "features", log.read("flights.events")[-1], Reject("json", "still")))
    assert chosen(log) == ["flights.events/0/3", "flights.events/0/0"]
    (transaction,) = replay(log)
    assert transaction[0].headers == [("thalweg-replayed", b"flights.events/0/0")]


def test_a_replay_passes_over_what_comes_while_it_goes_on() -> None:
    """Letters that appear after it began, of what it sent itself say, are left for the next one."""
    log = made(*(("features", "json", "flights.events", 0, n, None, b"") for n in range(HISTORY_BATCH + 1)))
    listed = read_letters(MemoryHistory(log), STREAM, Choice())
    found = [next(listed)]
    log.append(dead_letter(TOPIC, "features", Record("flights.events", 0, 50, None, b""), Reject("json", "why")))
    found += listed
    assert [one.letter.offset for one in found] == [*range(HISTORY_BATCH + 1)]
    assert len(chosen(log)) == HISTORY_BATCH + 2


def test_a_wrong_key_can_be_put_right() -> None:
    """Told to, it takes the key from the value's key field, and the partition is that key's; of no other reason."""
    (transaction,) = replay(made(*REFUSED), fix_keys=True)
    keys = [(out.key, out.partition) for out in transaction[::2]]
    assert keys == [(b"EWR", 0), (b"EWR", None), (None, 0), (b"JFK", 0)]
    bad = ("features", "key", "flights.events", 1, 6, b"LGA", b"{")
    assert [(out.key, out.partition) for out in replay(made(bad), fix_keys=True)[0][::2]] == [(b"LGA", 1)]
    late = ("labels", "key", "flights.labels", 0, 6, None, b"\0\0\0\0\1" + json.dumps(label(3)).encode())
    assert [(out.key, out.partition) for out in replay(made(late), fix_keys=True)[0][::2]] == [(b"JFK", None)]


@pytest.mark.parametrize(("limit", "value", "sizes"), [("LETTERS", 3, [6, 2]), ("BYTES", 5, [4, 4])])
def test_transactions_are_bounded(monkeypatch: pytest.MonkeyPatch, limit: str, value: int, sizes: list[int]) -> None:
    """By their letters and by their bytes: a backlog of any size is sent in pieces."""
    letters = [("features", "json", "flights.events", 0, n, None, b"{}") for n in range(4)]
    monkeypatch.setattr(dead_letters, limit, value)
    assert [len(transaction) for transaction in replay(made(*letters))] == sizes


def test_what_is_of_no_topic_of_the_stream_is_refused() -> None:
    """A letter that names another topic is not sent there."""
    with pytest.raises(Stop, match=r"trains.events/0/1 is of another stream; expected one of flights.events, "):
        replay(made(("features", "json", "trains.events", 0, 1, None, b"")))


def test_both_kinds_are_read_and_nothing_else() -> None:
    """A record of the topic is a letter or a mark; anything else is named by its place."""
    letter = dead_letter(TOPIC, "features", Record("flights.events", 0, 3, b"k", b"v"), Reject("json", "why"))
    read = decode_dead_letter(Record(TOPIC, 0, 0, letter.key, letter.value))
    assert isinstance(read, DeadLetter)
    assert read.original() == (b"k", b"v")
    _, mark = replay_letter(TOPIC, read)
    assert decode_dead_letter(Record(TOPIC, 0, 1, mark.key, mark.value)) == Replayed("flights.events", 0, 3)
    for value in (b"{", b"[]", b"{}", b'{"event":"replayed"}', b"\xff"):
        with pytest.raises(Stop, match=r"flights.dead-letter/0/7 is no dead letter"):
            decode_dead_letter(Record(TOPIC, 0, 7, None, value))


def test_after_a_fix_it_is_predicted_like_any_other(tmp_path: Path) -> None:
    """An event under a wrong key, sent again under its right one, has its prediction; the log verifies."""
    run = Recorded(tmp_path)
    event = flight(60)
    right = outgoing("events", event)
    run.log.append(msgspec.structs.replace(right, key=b"LGA", partition=1 - PARTITIONS[event["origin"]]))
    run.go_on()
    (transaction,) = replay(run.log, Choice(reason="key"), fix_keys=True)
    assert (transaction[0].key, transaction[0].value) == (right.key, right.value)
    run.go_on()
    predicted = [json.loads(record.value)["event_id"] for record in run.log.read("flights.predictions")]
    assert predicted.count("f60") == 1
    assert not any(found.differing for found in verify(STREAM, run.history, run.versions(), Span(), lambda *_: None))


def test_a_letter_that_carries_no_record_is_left_and_said() -> None:
    """The record of one was too large to carry: the others are sent, this one is named and not marked."""
    log = made(*REFUSED)
    records = log.topics[Position(TOPIC, 0)]
    bare = json.loads(records[1].value) | {"key": None, "value": None}
    records[1] = msgspec.structs.replace(records[1], value=json.dumps(bare).encode())
    replaying = Replay(STREAM, fix_keys=True)
    listed = read_letters(MemoryHistory(log), STREAM, Choice())
    sent = [letter.place for letter in replaying.run(listed, lambda outgoing: [*map(log.append, outgoing)])]
    assert sent == [PLACES[0], *PLACES[2:]]
    assert [letter.place for letter in replaying.left] == [PLACES[1]]
    assert [listed.replayed for listed in read_letters(MemoryHistory(log), STREAM, Choice(place=PLACES[1]))] == [False]
