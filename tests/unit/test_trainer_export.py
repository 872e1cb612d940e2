"""The exported graph says what its network says, and a network that can't be trusted is not exported."""

from functools import partial
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch

from services.runtime.errors import Stop
from services.runtime.onnx_session import open_session
from services.trainer.export import INPUT, OUTPUT, build, check, export
from services.trainer.networks import Floats, Layout, Network, Shape, history, scores, side_by_side

LAYOUT = Layout(numbers=(0, 5, 6), groups=((1, 2, 3, 4), (7, 8)))
ROWS = 10_000
KINDS = pytest.mark.parametrize("kind", ["mlp", "gru"])


def network(kind: str, layout: Layout = LAYOUT, seed: int = 0) -> Network:
    """Return a network with nothing left at its default, and with scores from near 0 to near 1."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        made = Network(layout, Shape(kind, 24, 2, 0.5, 4))  # type: ignore[arg-type]
        made.encoder.fit(vectors(500)[:, : layout.width])
        for weight in made.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
        made.head.weight.data *= 4
    made.encoder.centre += 0.5
    made.temperature.fill_(0.7)
    made.shift.fill_(0.3)
    return made.eval()


def vectors(rows: int) -> Floats:
    """Return numbers of every size that float32 has, both signs and 0, and one-hots, some of none, some wild."""
    draw = np.random.default_rng(rows)
    found = np.zeros((rows, 9), np.float32)
    size = 10 ** np.where(
        draw.random((rows, 3)) < 0.5, draw.uniform(-1, 1, (rows, 3)), draw.uniform(-44, 38.5, (rows, 3))
    )
    found[:, [0, 5, 6]] = size * draw.choice([-1, 0, 1], (rows, 3), p=[0.45, 0.1, 0.45])
    found[:, 1:5] = np.eye(5)[draw.integers(0, 5, rows), :4]
    found[:, 7:] = np.eye(2)[draw.integers(0, 2, rows)]
    found[4:8, 1] = [2, -1, 1e30, -1e30]
    found[:4, 0] = np.finfo(np.float32).max * np.array([1, -1, 1, -1])
    return found


def inputs(kind: str, rows: int = ROWS) -> Floats:
    """Return what the network takes; half of the entities of a "gru" have less of a past than it could read."""
    if kind == "mlp":
        return vectors(rows)
    return side_by_side(vectors(rows), history(np.random.default_rng(0).integers(0, rows // 4, rows), 4))


@KINDS
def test_a_graph_is_its_network(kind: str) -> None:
    """Over 10,000 rows, numbers of any size and absent pasts among them, scores are within 1e-5, however cut."""
    made, rows = network(kind), inputs(kind)
    session = open_session(export(made, rows))
    (whole,) = session.run([OUTPUT], {INPUT: rows})
    expected = scores(made, rows)
    assert whole.shape == (ROWS,)
    assert whole.dtype == np.float32
    assert np.abs(whole - expected).max() <= 1e-5
    assert expected.min() < 0.1
    assert expected.max() > 0.9
    assert len(np.unique(expected)) > ROWS / 2
    cuts = [0, 1, 2, 9, 500]
    parts = [session.run([OUTPUT], {INPUT: rows[first:last]})[0] for first, last in pairwise(cuts)]
    assert np.abs(np.concatenate(parts) - expected[:500]).max() <= 1e-5


@pytest.mark.parametrize("layout", [Layout((0, 1), ()), Layout((), ((0, 1, 2), (3, 4)))], ids=["numbers", "groups"])
@KINDS
def test_a_layout_of_one_sort(kind: str, layout: Layout) -> None:
    """Vectors of numbers alone and of one-hots alone make a graph too."""
    made = network(kind, layout)
    rows = np.random.default_rng(0).integers(0, 2, (50, made.shape.vectors * layout.width)).astype(np.float32)
    assert check(build(made), partial(scores, made), rows) <= 1e-5


@KINDS
def test_the_interface(kind: str) -> None:
    """A graph takes FEATURES, float32 (rows, columns), and gives SCORE, float32 (rows); it is one file, of opset 17."""
    made = network(kind)
    model = onnx.load_from_string(build(made))
    (takes,), (gives,) = model.graph.input, model.graph.output
    assert (takes.name, gives.name) == ("FEATURES", "SCORE")
    shapes = [[dim.dim_value or dim.dim_param for dim in put.type.tensor_type.shape.dim] for put in (takes, gives)]
    assert shapes == [["rows", 9 if kind == "mlp" else 36], ["rows"]]
    assert [opset.version for opset in model.opset_import] == [17]


@KINDS
@pytest.mark.parametrize("part", ["encoder.inverse", "stem.bias", "head.weight", "shift", "temperature"])
def test_a_network_that_is_not_all_numbers_is_refused(kind: str, part: str) -> None:
    """Whichever part of a network is NaN, it is not exported."""
    made = network(kind)
    made.state_dict()[part].view(-1)[0] = float("nan")
    with pytest.raises(Stop, match="not all finite numbers"):
        export(made, inputs(kind, 40))


@KINDS
def test_another_network_s_graph_is_refused(kind: str) -> None:
    """A graph that differs from its network by more than 1e-5 in one row is refused, and by how much is said."""
    made, rows = network(kind), inputs(kind, 400)
    with pytest.raises(Stop, match="differ by"):
        check(build(network(kind, seed=1)), partial(scores, made), rows)

    def nearly(asked: Floats) -> Floats:
        found = scores(made, asked)
        found[len(found) // 2] += 2e-5
        return found

    with pytest.raises(Stop, match=r"differ by 2e-05"):
        check(build(made), nearly, rows)


def test_scores_of_one_side_that_are_no_numbers_are_refused() -> None:
    """It is the graph's scores and the network's that have to be numbers, not those of one of them."""
    made, broken, rows = network("mlp"), network("mlp"), inputs("mlp", 40)
    broken.temperature.fill_(float("nan"))
    for one, another in ((made, broken), (broken, made)):
        with pytest.raises(Stop, match="not all finite numbers"):
            check(build(one), partial(scores, another), rows)


@KINDS
def test_a_finite_vector_has_a_finite_score(kind: str) -> None:
    """Whatever finite numbers stand in a vector, in one-hot columns too, the score is within 0 and 1."""
    rows = inputs(kind, 400)
    rows[:100, 1] = np.finfo(np.float32).max
    rows[100:200, 8] = -1e30
    found = scores(network(kind), rows)
    assert ((found >= 0) & (found <= 1)).all()


def test_a_scale_of_any_column() -> None:
    """Columns that never change, change in one row, or hold the largest numbers get a scale that leaves them finite."""
    rows = np.zeros((1000, 9), np.float32)
    rows[0, 5] = 3.0
    rows[:, 6] = np.finfo(np.float32).max * np.where(np.arange(1000) % 2, 1, -1)
    made = network("mlp")
    made.encoder.fit(rows)
    assert made.encoder.centre.tolist()[:2] == [0, 0]
    assert made.encoder.inverse.tolist()[0] == 1
    assert made.encoder.inverse.tolist()[1] == pytest.approx(1 / rows[:, 5].std(dtype=np.float64), rel=1e-5)
    assert np.isfinite(scores(made, rows)).all()
    assert check(build(made), partial(scores, made), rows) <= 1e-5
