"""The statistics of drift against their formulas, and their laws against simulation."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from services.drift import kernels, row_kernels
from services.drift.panel import Panel, cut
from services.drift.reducing import KEPT, ROWS

Cells = NDArray[np.int64]


def weigh(window: Cells, before: Cells) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values and surprise of one window of one table, nothing being known of how it swings."""
    spans, (values, surprise) = np.array([1]), np.zeros((2, 1, 1, 3))
    null, warm, newest = np.zeros((1, 1, 3, 3)), np.array([0]), np.zeros((1, 1, 3, 3))
    tables = np.array([len(window)]), np.ones((1, 3), np.bool_)
    told = window[None, None], spans, np.ones((1, 1)), before[None, None].astype(np.float64), *tables, null, newest
    kernels.weigh(*told, warm, np.zeros(1, np.bool_), 0.25, values, surprise)
    return values[0, 0], surprise[0, 0]


def test_statistics_are_their_formulas() -> None:
    """PSI, Kolmogorov-Smirnov and Jensen-Shannon of many rows are what their definitions say."""
    q, p = np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.3, 0.4])
    values, _ = weigh((q * 1e9).astype(np.int64), (p * 1e9).astype(np.int64))
    middle = (p + q) / 2
    js = (q @ np.log(q / middle) + p @ np.log(p / middle)) / 2
    assert values == pytest.approx([(q - p) @ np.log(q / p), 0.1, js], rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 2, 5, 20])
def test_the_surprise_of_a_chi_square_is_its_tail(freedom: int) -> None:
    """Wilson and Hilferty's is within a tenth of what is simulated; far out it says rather less."""
    x = np.sort(np.random.default_rng(1).chisquare(freedom, 400_000))
    for chance in (0.1, 1e-2, 1e-3):
        told = chi_square_surprise(float(x[-int(chance * len(x))]), float(freedom))
        assert told == pytest.approx(-math.log(chance), rel=0.1)
    assert 16 < chi_square_surprise(40.0, 2.0) < 20


def chi_square_surprise(x: float, freedom: float) -> float:
    return kernels.normal_surprise(kernels.chi_square_score((x / freedom) ** (1 / 3), freedom))


def test_a_turn_is_a_cosine_and_a_sine() -> None:
    """To some 1e-15, for small and large angles of both signs, and at the quarters, where it changes polynomials."""
    quarters = np.arange(-40, 41) * math.pi / 4
    angles = np.concatenate([np.random.default_rng(3).uniform(-5000, 5000, 2000), quarters, quarters + 1e-9])
    turned = np.array([row_kernels.turn(angle) for angle in angles.tolist()])
    assert np.abs(turned - np.stack([np.cos(angles), np.sin(angles)], axis=1)).max() < 1e-14


def test_the_normal_tail_has_no_seam() -> None:
    """Where the density takes over, the surprise is nearly what the error function says; and it never ends."""
    just = kernels.FAR - 1e-9
    assert kernels.normal_surprise(just) == pytest.approx(kernels.normal_surprise(kernels.FAR), rel=5e-3)
    assert kernels.normal_surprise(1e3) == pytest.approx(5e5, rel=1e-3)


def test_independent_rows_surprise_as_often_as_the_law_says() -> None:
    """Of windows of independent rows, no more than the share exp(-s) surprises by s nats, by any statistic."""
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.full(16, 3.0))
    before = rng.multinomial(50_000, p)
    surprise = np.array([weigh(rng.multinomial(ROWS, p), before)[1] for _ in range(4000)])
    for nats in (2.0, 4.0, 6.0):
        allowed = 4000 * math.exp(-nats)
        assert (surprise >= nats).sum(axis=0).max() <= allowed + 4 * math.sqrt(allowed)
    assert (surprise >= 2.0).sum(axis=0).min() > 40, "it is not merely deaf"


def test_a_value_that_repeats_has_a_bin_of_its_own() -> None:
    """A constant is held apart from what is a hair below or above it, whatever its scale."""
    for constant in (0.0, 0.003467, -7e20):
        low, high = cut(np.full(500, constant, np.float32)).tolist()
        assert low == np.float32(constant) < high
        assert high == np.nextafter(np.float32(constant), np.float32(math.inf))
    edges = cut(np.sort(np.concatenate([np.zeros(500), np.arange(1, 501)]).astype(np.float32)))
    assert {0.0, float(np.nextafter(np.float32(0), np.float32(1)))} < set(edges.tolist())
    assert len(cut(np.zeros(0, np.float32))) == 0


def blocks(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the sorted values that are kept of each block of ROWS."""
    ordered = np.sort(rows.reshape(-1, 1, ROWS), axis=2)
    return ordered[:, :, ::2].astype(np.float32)


def surprises(rows: NDArray[np.float64]) -> list[float]:
    panel = Panel(1, [], 25)
    nothing, none = np.zeros(1, np.int64), np.zeros((0, 0), np.int64)
    return [panel.fold(block, nothing, none, [0, 0, 0]) for block in blocks(rows)]


def wandering(size: int) -> NDArray[np.float64]:
    """Return a number whose rows are much alike for a while: autoregressive, 0.98 of it stays."""
    noise, rows = np.random.default_rng(3).normal(size=size), np.zeros(size)
    for i in range(1, size):
        rows[i] = 0.98 * rows[i - 1] + noise[i]
    return rows


def test_rows_that_are_alike_do_not_cry_wolf() -> None:
    """A number that wanders stays quiet for 300 blocks, where tests that think rows independent would cry all along.

    And a shift of twice its deviation is still seen at once.
    """
    rows = wandering(400 * ROWS)
    rows[350 * ROWS :] += 2 * rows.std()
    found = surprises(rows)
    assert max(found[:350]) < 14
    assert max(found[350:358]) > 14
    p = np.histogram(rows[: 25 * ROWS], np.quantile(rows[: 25 * ROWS], np.linspace(0, 1, 17)))[0]
    naive = [
        weigh(
            np.histogram(rows[i * ROWS : (i + 1) * ROWS], np.quantile(rows[: 25 * ROWS], np.linspace(0, 1, 17)))[0], p
        )[1].max()
        for i in range(25, 100)
    ]
    assert np.median(naive) > 14


def test_partitions_are_held_against_themselves() -> None:
    """Where two partitions differ and meet in any order, nothing is said; a shift of one of them is seen at once."""
    rng = np.random.default_rng(5)
    partition = rng.integers(2, size=120)
    rows = rng.normal(size=(120, ROWS)) + 5 * partition[:, None]
    rows[100:][partition[100:] == 1] += 0.6
    panel, nothing, none = Panel(1, [], 25), np.zeros(1, np.int64), np.zeros((0, 0), np.int64)
    told = zip(blocks(rows.ravel()), partition.tolist(), strict=True)
    found = [panel.fold(block, nothing, none, [0, place, 0]) for block, place in told]
    assert max(found[:100]) < 14 < max(found[100:104])


def test_a_change_does_not_make_itself_usual() -> None:
    """A small shift that stays is found by the longer spans, though each block alone says little."""
    rows = np.random.default_rng(4).normal(size=160 * ROWS)
    rows[100 * ROWS :] += 0.25
    found = surprises(rows)
    assert max(found[:100]) < 14 < max(found[100:125])


def test_kept_values_are_half_of_a_block() -> None:
    """The weight of a kept value, as the panel counts it, is exact."""
    assert KEPT * 2 == ROWS
