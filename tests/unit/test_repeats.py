"""How far back a repeated id is told."""

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.repeats import Repeats

IDS = st.lists(st.sampled_from("abcdefghij"), max_size=30)


def found(repeats: Repeats, batches: list[list[str]]) -> list[bool]:
    """Say of each id whether it was found to be repeated."""
    said = []
    for batch in batches:
        again = repeats.find(batch)
        said += [index in again for index in range(len(batch))]
    return said


@given(st.integers(1, 5), IDS)
def test_an_id_among_the_last_new_ones_is_repeated(least: int, ids: list[str]) -> None:
    """What was among the last `least` new ids is told, what is further back than twice as many is not."""
    new: list[str] = []
    for name, repeated in zip(ids, found(Repeats(least), [[name] for name in ids]), strict=True):
        assert repeated or name not in new[-least:]
        assert not repeated or name in new[-2 * least :]
        if not repeated:
            new.append(name)


@given(st.integers(1, 5), st.lists(IDS, max_size=6), st.integers(0, 6))
def test_cuts_and_restarts_leave_no_trace(least: int, batches: list[list[str]], restart: int) -> None:
    """However ids are batched and wherever another takes over, the same ones are told and the state is the same."""
    whole, cut = Repeats(least), Repeats(least)
    expected = found(whole, [[name] for batch in batches for name in batch])
    said = found(cut, batches[:restart])
    heir = Repeats(least)
    heir.load(cut.state())
    assert said + found(heir, batches[restart:]) == expected
    assert heir.state() == whole.state()


@given(st.integers(1, 5), IDS)
def test_memory_is_bounded(least: int, ids: list[str]) -> None:
    """No more than twice `least` ids are remembered."""
    repeats = Repeats(least)
    repeats.find(ids)
    assert sum(map(len, repeats.state())) <= 2 * least
