"""Training: what is learned, what is never learned from, when it stops, and that nothing of it is left to chance."""

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.trainer.calibration import log_loss, temperature
from services.trainer.core import Epoch, Recipe, Trained, train
from services.trainer.examples import Examples, split
from services.trainer.networks import Layout, history, scores, side_by_side
from services.trainer.stepping import Placement, portion, rate, shares

ROOT = Path(__file__).parents[2]
LAYOUT = Layout(numbers=(0, 5), groups=((1, 2, 3, 4),))
QUICK = Recipe(
    kind="mlp",
    width=16,
    depth=1,
    steps=3,
    dropout=0.1,
    epochs=4,
    batch_size=64,
    learning_rate=1e-2,
    weight_decay=1e-2,
    patience=4,
    validation=0.2,
    calibration=0.2,
    class_weights="none",
    seed=0,
)
GRU = replace(QUICK, kind="gru")
KINDS = pytest.mark.parametrize("recipe", [QUICK, GRU], ids=lambda recipe: recipe.kind)


def made(rows: int, label: Callable[[Any, Any, Any], Any], seed: int = 0) -> Examples:
    """Return examples of two numbers and one of four kinds; `label` is told the numbers, the kinds and the entities."""
    draw = np.random.default_rng(seed)
    numbers, kinds = draw.normal(size=(rows, 2)).astype(np.float32), draw.integers(0, 4, rows)
    entities = draw.integers(0, 7, rows)
    vectors = np.concatenate([numbers[:, :1], np.eye(4, dtype=np.float32)[kinds], numbers[:, 1:]], axis=1)
    labels = np.asarray(label(numbers, kinds, entities), np.float32)
    for array in (vectors, labels, entities):
        array.flags.writeable = False  # as what is read from Arrow
    return Examples(vectors, labels, entities)


def turned(numbers: Any, kinds: Any, _: Any) -> Any:
    """Say the first number's sign, turned around for half of the kinds: no weighted sum of the columns knows it."""
    return numbers[:, 0] * np.where(kinds < 2, 1, -1) > 0


def noisy(numbers: Any, _: Any, entities: Any) -> Any:
    return numbers[:, 0] + 2 * np.random.default_rng(len(entities)).normal(size=len(entities)) > 0


def before(numbers: Any, _: Any, entities: Any) -> Any:
    """Say the sign of the number that the entity had the time before."""
    places = history(entities, 2)[:, 0]
    return np.append(numbers[:, 0], 0)[places] > 0


def weights(trained: Trained) -> dict[str, bytes]:
    return {name: weight.numpy().tobytes() for name, weight in trained.network.state_dict().items()}


def checkpoints(examples: Examples, recipe: Recipe) -> tuple[Trained, list[bytes]]:
    found: list[bytes] = []
    return train(examples, LAYOUT, recipe, on_epoch=lambda epoch: found.append(epoch.checkpoint())), found


# What is learned


def test_learns_what_a_number_means_for_each_kind() -> None:
    """A number whose sense depends on a categorical is learned, on rows that were never trained on."""
    trained = train(made(4000, turned), LAYOUT, replace(QUICK, epochs=6))
    fresh = made(2000, turned, seed=1)
    right = (scores(trained.network, fresh.vectors) > 0.5) == (fresh.labels > 0)
    assert right.mean() > 0.95
    assert trained.calibration_loss[1] < 0.15


def test_the_gru_remembers_and_the_mlp_does_not() -> None:
    """What an entity's vector before said is learned by the "gru", to which alone it is shown."""
    examples = made(4000, before)
    assert train(examples, LAYOUT, replace(GRU, epochs=8)).calibration_loss[1] < 0.25
    assert train(examples, LAYOUT, QUICK).calibration_loss[1] > 0.6


def test_balanced_classes_leave_probabilities() -> None:
    """Where the rarer class weighs more, scores are still the shares in which it comes."""
    examples = made(6000, lambda numbers, *_: numbers[:, 0] > 1.5)
    trained = train(examples, LAYOUT, replace(QUICK, class_weights="balanced"))
    assert trained.network.shift.item() > 2
    assert scores(trained.network, examples.vectors).mean() == pytest.approx(examples.labels.mean(), rel=0.25)


# Time


@pytest.mark.parametrize("recipe", [QUICK, GRU, replace(QUICK, class_weights="balanced")])
def test_no_later_row_is_trained_on(recipe: Recipe) -> None:
    """What the later parts hold, vectors, labels and whose, changes no weight of any epoch, and no scale."""
    examples = made(1000, noisy)
    first = split(1000, recipe.validation, recipe.calibration).train.stop
    assert first == 600
    later = np.arange(1000) >= first
    assert examples.entities is not None
    other = Examples(
        np.where(later[:, None], examples.vectors[::-1] * 9, examples.vectors).astype(np.float32),
        np.where(later, 1, examples.labels).astype(np.float32),
        np.where(later, examples.entities[::-1], examples.entities),
    )
    (_, ours), (_, theirs) = checkpoints(examples, recipe), checkpoints(other, recipe)
    assert len(ours) == len(theirs) == recipe.epochs
    for one, another in zip(map(opened, ours), map(opened, theirs), strict=True):
        assert all(torch.equal(one["network"][name], another["network"][name]) for name in one["network"])
        assert one["losses"] != another["losses"], "the later parts were not even looked at"


def opened(checkpoint: bytes) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(io.BytesIO(checkpoint), weights_only=True)
    return found


def test_the_oldest_row_of_the_first_part_is_trained_on() -> None:
    """The test above can fail: a row of the first part does change the weights."""
    examples = made(1000, noisy)
    labels = examples.labels.copy()
    labels[0] = 1 - labels[0]
    other = replace(examples, labels=labels)
    once = replace(QUICK, epochs=1, batch_size=100)
    assert weights(train(examples, LAYOUT, once)) != weights(train(other, LAYOUT, once))


def test_the_parts_are_in_order_and_whole() -> None:
    """Every row is in one part, and a part is later than the one before it."""
    parts = split(103, 0.1, 0.2)
    assert (parts.train, parts.validation, parts.calibration) == (slice(0, 73), slice(73, 83), slice(83, 103))
    with pytest.raises(ValueError, match="3 examples are too few"):
        split(3, 0.1, 0.1)


def test_a_history_is_an_entity_s_own_past() -> None:
    """The last places are the row itself and before it the entity's rows before, oldest first; the rest is absent."""
    assert history(np.array([5, 9, 5, 5, 9]), 3).tolist() == [[5, 5, 0], [5, 5, 1], [5, 0, 2], [0, 2, 3], [5, 1, 4]]
    assert history(np.zeros(2, np.int64), 3).tolist() == [[2, 2, 0], [2, 0, 1]]
    laid = side_by_side(np.array([[1, 2], [3, 4]], np.float32), history(np.zeros(2, np.int64), 2))
    assert np.array_equal(laid, np.array([[np.nan, np.nan, 1, 2], [1, 2, 3, 4]], np.float32), equal_nan=True)


# Stopping


def test_the_best_epoch_is_kept() -> None:
    """Training ends `patience` epochs after the best, whose weights are returned: they have its loss."""
    examples = made(400, noisy)
    recipe = replace(QUICK, width=64, depth=2, epochs=60, patience=3, batch_size=16)
    trained = train(examples, LAYOUT, recipe)
    losses = [loss for _, loss in trained.losses]
    assert losses[trained.best - 1] == min(losses)
    assert 1 < trained.best < len(losses) == trained.best + 3 < 60
    part = split(400, recipe.validation, recipe.calibration).validation
    with torch.no_grad():
        logits = trained.network.logits(torch.tensor(examples.vectors[part])).double().numpy()
    assert log_loss(logits, examples.labels[part].astype(np.float64)) == pytest.approx(min(losses), rel=1e-6)


def test_training_that_diverges_is_an_error() -> None:
    """Where no epoch had a finite loss there is no network."""
    with pytest.raises(ValueError, match="training diverged"):
        train(made(400, noisy), LAYOUT, replace(QUICK, learning_rate=1e38))


def test_the_rate_rises_and_falls() -> None:
    """The learning rate is highest after a twentieth of the steps, falls ever after, and is never 0."""
    rates = [rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == rates[4] == 1.0
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < min(rates) < 0.02


# Chance


@KINDS
def test_resumed_is_uninterrupted(recipe: Recipe) -> None:
    """Whichever epoch a training is resumed after, it ends in the same weights, bit for bit, and the same losses."""
    examples = made(600, noisy)
    whole, found = checkpoints(examples, recipe)
    for checkpoint in found:
        resumed = train(examples, LAYOUT, recipe, checkpoint=checkpoint)
        assert (resumed.losses, resumed.best) == (whole.losses, whole.best)
        assert weights(resumed) == weights(whole)


def test_a_resumed_training_goes_on_where_it_was() -> None:
    """Epochs that a checkpoint has behind it are not trained again; a step is told with all steps."""
    examples = made(600, noisy)
    _, found = checkpoints(examples, QUICK)
    epochs, steps = list[Epoch](), list[tuple[int, int]]()
    told = {"on_epoch": epochs.append, "on_step": lambda *step: steps.append(step)}
    train(examples, LAYOUT, QUICK, checkpoint=found[1], **told)
    assert [epoch.number for epoch in epochs] == [3, 4]
    assert steps == [(step, 20) for step in range(11, 21)]


def test_a_checkpoint_is_of_its_examples_and_recipe() -> None:
    """A checkpoint is refused by other examples and by another recipe."""
    examples = made(600, noisy)
    _, found = checkpoints(examples, QUICK)
    for other, recipe in ((made(600, noisy, seed=1), QUICK), (examples, replace(QUICK, epochs=5))):
        with pytest.raises(ValueError, match="the checkpoint is of other"):
            train(other, LAYOUT, recipe, checkpoint=found[0])


@KINDS
def test_a_seed_is_all_the_chance_there_is(recipe: Recipe) -> None:
    """The same seed gives the same weights whatever was drawn before, another one others; no draw of others is used."""
    examples = made(600, noisy)
    torch.manual_seed(5)
    one = weights(train(examples, LAYOUT, recipe))
    drawn = torch.rand(3)
    assert weights(train(examples, LAYOUT, recipe)) == one
    assert weights(train(examples, LAYOUT, replace(recipe, seed=1))) != one
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_a_batch(workers: int) -> None:
    """What the workers take of a batch is all of it together, as much each, and no row twice."""
    batches = torch.randperm(24).view(2, 12)
    taken = [shares(batches, Placement(worker=worker, workers=workers)) for worker in range(workers)]
    assert {len(share) for found in taken for share in found} == {12 // workers}
    for number, batch in enumerate(batches):
        together = torch.cat([found[number] for found in taken])
        assert sorted(together.tolist()) == sorted(batch.tolist())


@pytest.mark.parametrize(("rows", "workers"), [(12, 1), (12, 3), (7, 2), (2, 3), (1, 4)])
def test_each_row_of_a_batch_counts_the_same(rows: int, workers: int) -> None:
    """The workers' mean of their mean losses is the batch's, whoever has more rows; one without gets a row to take."""
    losses = torch.arange(rows, dtype=torch.float64) ** 2
    total = 0.0
    for worker in range(workers):
        placement = Placement(worker=worker, workers=workers)
        (own,) = shares(torch.arange(rows).view(1, rows), placement)
        assert len(own) > 0
        total += losses[own].mean().item() * portion(rows, placement)
    assert total / workers == pytest.approx(losses.mean().item())
    assert portion(rows, Placement()) == 1


# Calibration


@pytest.mark.parametrize("seed", range(20))
def test_temperature_never_worsens(seed: int) -> None:
    """The log loss that a temperature was found on is no higher with it, be logits too bold, too shy or worthless."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=300) * 10 ** draw.uniform(-3, 3)
    labels = (draw.uniform(size=300) < 1 / (1 + np.exp(-draw.normal() * logits))).astype(np.float64)
    assert log_loss(logits / temperature(logits, labels), labels) <= log_loss(logits, labels)


@pytest.mark.parametrize("bold", [0.5, 1.0, 3.0])
def test_temperature_is_found(bold: float) -> None:
    """Logits that are `bold` times the right ones have that temperature; of one class nothing can be said."""
    draw = np.random.default_rng(0)
    right = 2 * draw.normal(size=20_000)
    labels = (draw.uniform(size=20_000) < 1 / (1 + np.exp(-right))).astype(np.float64)
    assert temperature(bold * right, labels) == pytest.approx(bold, rel=0.05)
    assert temperature(right, np.ones(20_000)) == 1.0


def test_a_network_s_own_temperature() -> None:
    """The calibration part's loss with the network's temperature is what is reported, and not worse than without."""
    examples = made(300, noisy)
    trained = train(examples, LAYOUT, replace(QUICK, epochs=30, patience=30))
    part = split(300, QUICK.validation, QUICK.calibration).calibration
    p, y = scores(trained.network, examples.vectors[part]).astype(np.float64), examples.labels[part]
    assert -np.log(np.where(y > 0, p, 1 - p)).mean() == pytest.approx(trained.calibration_loss[1], rel=1e-4)
    assert trained.calibration_loss[1] <= trained.calibration_loss[0]
    assert trained.network.temperature.item() != 1.0


# What is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vectors": np.zeros((9, 5), np.float32)}, "the layout has columns"),
        ({"labels": np.zeros(8, np.float32)}, "not of one length"),
        ({"entities": np.zeros(8, np.int64)}, "not of one length"),
        ({"entities": None}, "whose each row is"),
        ({"labels": np.full(9, 0.5, np.float32)}, "neither 0 nor 1"),
        ({"labels": np.ones(9, np.float32)}, "all of one class"),
        ({"vectors": np.full((9, 6), np.nan, np.float32)}, "not finite"),
    ],
)
def test_examples_that_can_t_be_learned_from(change: dict[str, Any], said: str) -> None:
    """Examples that don't fit the layout, hold no numbers or teach nothing are refused, and the error says why."""
    with pytest.raises(ValueError, match=said):
        train(replace(made(9, turned), **change), LAYOUT, GRU)


# Alone

ALONE = """
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, requires
import re

def needed(name, found):
    for line in [name, *(requires(name) or [])] if name not in found else []:
        if "extra ==" not in line:
            other = re.match(r"[\\w.-]+", line)[0]
            if other == name:
                found.add(name)
            else:
                try:
                    needed(other, found)
                except ModuleNotFoundError:
                    pass
    return found

allowed = {re.sub(r"[-_.]+", "-", name).lower() for top in ("torch", "numpy") for name in needed(top, set())}
belongs = packages_distributions()

class Bare:
    def create_module(self, spec):
        raise ModuleNotFoundError(f"{spec.name} is not on a bare machine", name=spec.name)

    def exec_module(self, module):
        pass

    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        ours = first in ("infra", "tests") or (name.startswith("services.") and not name.startswith("services.trainer"))
        owners = {re.sub(r"[-_.]+", "-", owner).lower() for owner in belongs.get(first, ())}
        if ours or (owners and first != "services" and not owners & allowed):
            return ModuleSpec(name, self)

sys.meta_path.insert(0, Bare())
for absent in ("msgspec", "onnx", "services.runtime"):
    try:
        __import__(absent)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{absent} was there")
import numpy as np
from services.trainer.core import Recipe, train
from services.trainer.examples import Examples
from services.trainer.networks import Layout
x = np.arange(40, dtype=np.float32)[:, None]
recipe = Recipe("gru", 4, 1, 2, 0.0, 1, 8, 1e-3, 0.0, 1, 0.2, 0.2, "none", 0)
print(train(Examples(x, np.tile(np.float32([0, 1]), 20), np.zeros(40, np.int64)), Layout((0,), ()), recipe).best)
"""


def test_the_core_needs_torch_and_numpy_alone() -> None:
    """Where only torch, numpy, what those need, and this package can be imported, a network trains."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
