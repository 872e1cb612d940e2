"""How fast the batch network trains against a bare loop over tensors, where there is nothing but torch and numpy.

    PYTHONPATH=. python loadtests/train_speed.py [--rows N] [--kind mlp gru] [--device cuda] [--rounds N]

The bare loop has the same network, optimiser and batches, and nothing else; our time has validation, schedule and
checkpoints in it. Both leave out their first epoch, in which things are compiled. On a CPU it is CPU time that is
compared, as other processes may want the cores too. Rows are drawn here, in the shape of flights, as a rate does not
depend on what they say; `train.py` compares on real ones.
"""

import argparse
import platform
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from services.trainer.core import Epoch, Recipe, train
from services.trainer.examples import Examples, split
from services.trainer.networks import Layout, Network, history, side_by_side
from services.trainer.stepping import Placement, optimiser, wrap

TIMED = 2  # epochs that are timed
FLIGHTS = Layout((*range(2), *range(17, 29)), (tuple(range(2, 14)), tuple(range(14, 17))))
RECIPE = Recipe("mlp", 128, 2, 8, 0.1, 20, 1024, 2e-3, 1e-2, 4, 0.1, 0.1, "none", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--kind", nargs="+", default=["mlp", "gru"], choices=["mlp", "gru"])
    parser.add_argument("--batch-size", type=int, default=RECIPE.batch_size)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{given.rows:,} rows drawn, batches of {given.batch_size:,}; device: {described(given.device)}")
    for kind in given.kind:
        how = replace(RECIPE, kind=kind, batch_size=given.batch_size)
        compare(drawn(given.rows), FLIGHTS, how, given.device, given.rounds)


def drawn(rows: int) -> Examples:
    """Return rows of numbers, two one-hot groups and three entities."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(rows, FLIGHTS.width)).astype(np.float32)
    for group in FLIGHTS.groups:
        vectors[:, group] = np.eye(len(group), dtype=np.float32)[draw.integers(0, len(group), rows)]
    labels = (vectors[:, 0] + draw.normal(size=rows) > 1).astype(np.float32)
    return Examples(vectors, labels, draw.integers(0, 3, rows))


def described(device: str) -> str:
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {platform.machine()}, {torch.get_num_threads()} thread(s), {torch.backends.cpu.get_cpu_capability()}"


def compare(learned: Examples, columns: Layout, how: Recipe, device: str, rounds: int) -> None:
    """Print rows a second of ours, of the bare loop, and the median of the rounds' ratios."""
    how = replace(how, epochs=1 + TIMED, patience=1 + TIMED)
    pairs = [(ours(learned, columns, how, device), bare(learned, columns, how, device)) for _ in range(rounds)]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(ours_rate / bare_rate for ours_rate, bare_rate in pairs)
    each = ", ".join(f"{ours_rate / bare_rate:.2f}" for ours_rate, bare_rate in pairs)
    print(f"{how.kind}: {mine:>11,.0f} rows/s ours, {theirs:>11,.0f} bare loop, ratio {ratio:.2f} (rounds: {each})")


def clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def ours(learned: Examples, columns: Layout, how: Recipe, device: str) -> float:
    """Return rows a second of training as it is used, with a checkpoint taken after each epoch."""
    ends: list[float] = []

    def note(epoch: Epoch) -> None:
        epoch.checkpoint()
        ends.append(clock(device))

    train(learned, columns, how, Placement(device), on_epoch=note)
    return trained_rows(learned, how) / (ends[-1] - ends[0])


def trained_rows(learned: Examples, how: Recipe) -> int:
    first: int = split(len(learned.labels), how.validation, how.calibration).train.stop
    return TIMED * (first // how.batch_size) * how.batch_size


def bare(learned: Examples, columns: Layout, how: Recipe, device: str) -> float:
    """Return rows a second of a loop that does nothing but train the same network on the same batches."""
    first = split(len(learned.labels), how.validation, how.calibration).train.stop
    vectors = learned.vectors[:first]
    if how.kind == "gru" and learned.entities is not None:
        vectors = side_by_side(vectors, history(learned.entities[:first], how.steps))
    x, y = torch.from_numpy(vectors).to(device), torch.from_numpy(learned.labels[:first]).to(device)
    torch.manual_seed(how.seed)
    network = Network(columns, how.shape)
    network.encoder.fit(learned.vectors[:first])
    network.to(device)
    model, optimise = wrap(network, Placement(device)), optimiser(network, how.learning_rate, how.weight_decay)
    start = 0.0
    for epoch in range(1 + TIMED):
        start = clock(device) if epoch == 1 else start
        order = torch.randperm(first, device=device)
        for at in range(0, first - how.batch_size + 1, how.batch_size):
            chosen = order[at : at + how.batch_size]
            with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
                raw = model(x[chosen])
            loss = functional.binary_cross_entropy_with_logits(raw.float(), y[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimise.step()
            optimise.zero_grad(set_to_none=True)
    return trained_rows(learned, how) / (clock(device) - start)


if __name__ == "__main__":
    main()
