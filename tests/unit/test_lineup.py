"""The line-up: what the records of `models` add up to, and what is written to change it."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.models import (
    BATCH,
    EVEN,
    Event,
    Lineup,
    Moved,
    Published,
    Registered,
    State,
    Weighed,
    chosen,
    decode_event,
)

SET = "made:0"
STATES: tuple[State, ...] = ("shadow", "canary", "champion", "retired")


def registered(version: int, feature_set: str = SET) -> Registered:
    return Registered(BATCH, version, feature_set, 10, 0.3, 0.5, "ann@desk")


def moved(version: int, state: State, share: float = 0.0) -> Moved:
    return Moved(BATCH, version, state, "ann@desk", "so", share)


def folded(events: Sequence[Event]) -> Lineup:
    lineup = Lineup(SET)
    for event in events:
        lineup.fold(event)
    return lineup


REGISTERED = [registered(version) for version in (1, 2, 3)]
MOVES = st.lists(st.builds(moved, st.integers(1, 3), st.sampled_from(STATES), st.floats(0, 1)), max_size=20)


def stand(lineup: Lineup) -> dict[int, tuple[State, float]]:
    return {version: (found.state, found.share) for version, found in lineup.candidates.items()}


def test_a_version_begins_registered() -> None:
    """It is scored by nobody; registered again, it stays what it is."""
    lineup = folded([registered(7), moved(7, "shadow"), registered(7)])
    assert folded([registered(7)]).of("registered") == [7]
    assert lineup.of("shadow") == [7]
    assert lineup.champion is None
    assert lineup.predecessor() is None


def test_another_feature_set_is_passed_over() -> None:
    """A model of other columns can't score these rows, whatever is said of it."""
    lineup = folded([registered(1, "made:1"), moved(1, "champion"), moved(9, "champion")])
    assert lineup.candidates == {}
    assert lineup.champion is None


def test_the_online_model_is_live_by_being_published() -> None:
    """The version published last; a batch model's publication would say nothing of it."""
    lineup = folded([Published("online", 5, SET, 5, 0.3), Published("batch", 9, SET, 9, 0.3)])
    assert lineup.online == 5


@given(MOVES)
def test_there_is_one_champion_at_most(moves: list[Moved]) -> None:
    """Whatever is written: the one before goes back to being a shadow."""
    lineup = folded(REGISTERED)
    for move in moves:
        before = lineup.champion
        lineup.fold(move)
        assert len(lineup.of("champion")) <= 1
        if move.state == "champion" and before not in (None, move.version):
            assert lineup.candidates[before].state == "shadow"
            assert lineup.predecessor() == before


def test_a_rollback_goes_back_to_the_newest_that_reigned() -> None:
    """Of those that are still scored; without one the online model serves alone."""
    lineup = folded([*REGISTERED, *(moved(version, "champion") for version in (2, 1, 3))])
    assert lineup.predecessor() == 1
    gone, back = lineup.withdraw(3, "inference", "it answers NaN", {"rows": 7})
    assert gone == Moved(BATCH, 3, "retired", "inference", "it answers NaN", evidence={"rows": 7})
    assert back == Moved(BATCH, 1, "champion", "inference", "batch@3 is withdrawn: it answers NaN")
    lineup.fold(gone)
    lineup.fold(back)
    assert (lineup.champion, lineup.predecessor()) == (1, 2)
    lineup.fold(moved(2, "retired"))
    assert [move.state for move in lineup.withdraw(1, "inference", "slow")] == ["retired"]


@given(MOVES, st.integers(1, 3))
def test_who_is_withdrawn_is_gone(moves: list[Moved], version: int) -> None:
    """It is served and scored no longer; the champion stays where it was another, or is one that was it before."""
    lineup = folded([*REGISTERED, *moves])
    champion, before = lineup.champion, lineup.predecessor()
    for move in lineup.withdraw(version, "ann@desk", "so"):
        lineup.fold(move)
    assert lineup.candidates[version].state == "retired"
    assert lineup.champion == (before if champion == version else champion)


# Who is served by whom


def test_a_canary_serves_its_share_of_the_keys() -> None:
    """The same keys each time; the champion serves all others."""
    keys = [f"k{number}" for number in range(4000)]
    lineup = folded([*REGISTERED, moved(1, "champion"), moved(2, "canary", 0.1), moved(3, "shadow")])
    served = list(lineup.serving(keys, {1, 2, 3}).values())
    assert set(served) == {1, 2}
    assert 320 < served.count(2) < 480
    assert lineup.serving(reversed(keys), {1, 2, 3}) == dict(zip(keys, served, strict=True))


def test_shares_grow_and_differ() -> None:
    """A larger share has the keys of a smaller one; another version has other keys; 0 is nobody, 1 is everybody."""
    keys = [f"k{number}" for number in range(1000)]
    few, more = ({key for key in keys if chosen(key, 1, share)} for share in (0.1, 0.3))
    other = {key for key in keys if chosen(key, 2, 0.1)}
    assert few < more
    assert len(few & other) < 30
    assert not any(chosen(key, 1, 0.0) for key in keys)
    assert all(chosen(key, 1, 1.0) for key in keys)


def test_nobody_is_served_by_a_shadow() -> None:
    """Nor by who is registered or retired."""
    lineup = folded([*REGISTERED, moved(1, "shadow"), moved(2, "retired")])
    assert lineup.serving(["k"], {1, 2, 3}) == {}


def test_who_can_not_answer_yet_does_not_serve() -> None:
    """For a champion its predecessor does, for a canary the champion; without one nobody does."""
    lineup = folded([*REGISTERED, moved(1, "champion"), moved(3, "champion"), moved(2, "canary", 1.0)])
    assert [lineup.serving(["k"], able) for able in ({1, 2, 3}, {1, 3}, {1})] == [{"k": 2}, {"k": 3}, {"k": 1}]
    assert lineup.serving(["k"], set()) == {}


def test_weights_are_the_newest_ones() -> None:
    """Who has none counts as much as the online model."""
    lineup = folded([*REGISTERED, Weighed(BATCH, {1: 0.9, 2: 0.2}), Weighed(BATCH, {1: 0.8})])
    assert (lineup.weight(1), lineup.weight(2)) == (0.8, EVEN)


# Records


@given(MOVES, st.data())
def test_compaction_loses_no_decision(moves: list[Moved], data: st.DataObject) -> None:
    """Each record of a move has a key of its own, in whatever pieces they are written: a compacted topic keeps all."""
    lineup, keys = folded(REGISTERED), list[bytes]()
    while moves:
        count = data.draw(st.integers(1, len(moves)))
        written, moves = moves[:count], moves[count:]
        keys += lineup.keys(written)
        for move in written:
            lineup.fold(move)
    assert len(set(keys)) == len(keys)
    assert sum(found.moves for found in lineup.candidates.values()) == len(keys)


@given(MOVES)
def test_the_fold_of_a_compacted_topic_is_the_same(moves: list[Moved]) -> None:
    """Weights and publications are overwritten by key, moves are not, so the line-up stays what it was."""
    keys = [f"batch@{event.version}".encode() for event in REGISTERED]
    log: list[tuple[bytes, Event]] = list(zip(keys, REGISTERED, strict=True))
    lineup = folded(REGISTERED)
    for number, move in enumerate(moves):
        log += [(b"online", Published("online", number, SET, number, None)), (b"weights", Weighed(BATCH, {1: number}))]
        log += zip(lineup.keys([move]), [move], strict=True)
        lineup.fold(move)
    last = {key: place for place, (key, _) in enumerate(log)}
    compacted = [event for place, (key, event) in enumerate(log) if last[key] == place]
    whole, again = (folded(events) for events in ([event for _, event in log], compacted))
    assert stand(again) == stand(whole)
    assert (again.champion, again.predecessor()) == (whole.champion, whole.predecessor())
    assert (again.online, again.weight(1)) == (whole.online, whole.weight(1))


def test_records_are_plain_json() -> None:
    """Each kind is read back as it was written, by its word."""
    for event in (
        registered(1),
        moved(1, "canary", 0.1),
        Weighed(BATCH, {7: 0.25}),
        Published("online", 1, SET, 1, 0.5),
    ):
        assert decode_event(msgspec.json.encode(event)) == event
    assert msgspec.json.decode(msgspec.json.encode(Weighed(BATCH, {7: 0.25}))) == {
        "event": "weighed",
        "model": "batch",
        "weights": {"7": 0.25},
    }
