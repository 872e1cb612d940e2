"""What is served of several models' scores: the weighted mean, whoever answered, and what `scored` says of it."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.mix import Beside, Mix, Scores

ONLINE = np.array([0.2, 0.4, 1e-300])
HALF = Beside(7, "canary", 0.5, np.array([0.6, 0.8, 0.1]), np.array([0.5, 0.0, 0.5]))
SHADOW = Beside(9, "shadow", 0.25, np.array([0.9, np.nan, 0.9]), np.zeros(3))
probability = st.floats(0, 1)


def mix(*beside: Beside) -> Mix:
    return Mix(Scores(1840, ONLINE), beside)


def test_alone_the_online_model_is_served_bit_for_bit() -> None:
    """Without another model nothing is computed with its scores."""
    assert mix().served.tobytes() == ONLINE.tobytes()
    assert mix().weights() == [{"online@1840": 1.0}] * 3
    assert mix(SHADOW).served.tobytes() == ONLINE.tobytes(), "a shadow changes nothing"


def test_the_mean_is_weighted() -> None:
    """A row is served by the versions that have a weight there; the rest is the online model's."""
    found = mix(HALF, SHADOW)
    assert found.served.tolist() == pytest.approx([0.4, 0.4, 0.05])
    both = {"online@1840": 0.5, "batch@7": 0.5}
    assert found.weights() == [both, {"online@1840": 1.0}, both]
    assert found.degraded.tolist() == [False] * 3


def test_all_that_were_asked_are_named() -> None:
    """Scores are those of shadows as well; who gave none is left out."""
    assert mix(HALF, SHADOW).scores() == [
        {"online@1840": 0.2, "batch@7": 0.6, "batch@9": 0.9},
        {"online@1840": 0.4, "batch@7": 0.8},
        {"online@1840": 1e-300, "batch@7": 0.1, "batch@9": 0.9},
    ]


def test_a_version_without_an_answer_leaves_its_weight_to_the_online_model() -> None:
    """Such a row is degraded, if the version was to serve it; it is served all the same."""
    silent = Beside(7, "champion", 0.5, np.array([0.6, np.nan, np.nan]), np.array([0.5, 0.5, 0.0]))
    found = mix(silent)
    assert found.served.tolist() == pytest.approx([0.4, 0.4, 1e-300])
    assert found.degraded.tolist() == [False, True, False]
    assert found.weights()[1] == {"online@1840": 1.0}


def test_the_column_has_an_entry_a_version() -> None:
    """In the order of versions, with what each was then; a score is null where there was none."""
    served, online, batch = mix(HALF, SHADOW).columns()
    assert served.to_pylist() == mix(HALF, SHADOW).served.tolist()
    assert online.to_pylist()[0] == {"version": 1840, "score": 0.2, "weight": 0.5}
    assert batch.to_pylist()[1] == [
        {"version": 7, "score": 0.8, "weight": 0.0, "state": "canary", "beside": 0.5},
        {"version": 9, "score": None, "weight": 0.0, "state": "shadow", "beside": 0.25},
    ]
    assert [len(entries) for entries in batch] == [2, 2, 2]
    batch.validate(full=True)


@pytest.mark.parametrize("rows", [0, 3])
def test_without_versions_the_column_is_of_empty_lists(rows: int) -> None:
    """Every row has a list, be there no version and no row."""
    column = Mix(Scores(1, np.zeros(rows))).columns()[2]
    column.validate(full=True)
    assert column.to_pylist() == [[]] * rows
    assert isinstance(column, pa.ListArray)


@given(st.lists(st.tuples(probability, probability, probability, st.booleans()), min_size=1, max_size=8))
def test_what_is_served_lies_between_the_scores(rows: list[tuple[float, float, float, bool]]) -> None:
    """It is a probability; its weights are 1 in all; and a row's bits don't depend on the rows beside it."""
    online, values, weights = (np.array([row[n] for row in rows]) for n in range(3))
    values = np.where([row[3] for row in rows], values, np.nan)

    def made(chosen: slice) -> Mix:
        return Mix(Scores(1, online[chosen]), [Beside(2, "champion", 0.5, values[chosen], weights[chosen])])

    whole = made(slice(None))
    low, high = np.fmin(online, values), np.fmax(online, values)
    assert (whole.served >= low - 1e-12).all()
    assert (whole.served <= high + 1e-12).all()
    assert [sum(row.values()) for row in whole.weights()] == pytest.approx([1.0] * len(rows))
    assert all(made(slice(n, n + 1)).served[0] == whole.served[n] for n in range(len(rows)))
