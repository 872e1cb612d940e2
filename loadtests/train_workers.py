"""How fast several processes train one network, against one: rows a second, with everything that a training does.

    PYTHONPATH=. python loadtests/train_workers.py [--processes 1 2] [--rows N] [--kind mlp] [--device cuda]

Each round starts each number of processes in turn, as `torchrun` does; starting and the first epoch are left out. The
batch is shared, so more processes take as many steps, each on fewer rows. On a CPU they share the cores; where others
want those too, threads that wait for each other are slow, and OMP_NUM_THREADS=1 compares processes alone.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from train_speed import FLIGHTS, RECIPE, TIMED, described, drawn, trained_rows

from services.trainer.core import Epoch, train
from services.trainer.workers import end, follow, joined

ROOT = Path(__file__).parents[1]
AT_LOOPBACK = ("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--kind", default="mlp", choices=["mlp", "gru"])
    parser.add_argument("--batch-size", type=int, default=RECIPE.batch_size)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    if "RANK" in os.environ:
        measure(given)
        return
    print(f"{given.kind}, {given.rows:,} rows, batches of {given.batch_size:,}; device: {described(given.device)}")
    rounds = [[started(processes, arguments) for processes in given.processes] for _ in range(given.rounds)]
    for processes, rates in zip(given.processes, zip(*rounds, strict=True), strict=True):
        each = ", ".join(f"{rate:,.0f}" for rate in rates)
        print(f"{processes} process(es): {statistics.median(rates):>11,.0f} rows/s (rounds: {each})")


def started(processes: int, arguments: Sequence[str]) -> float:
    """Return the rows a second of so many processes; they share the cores."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", *AT_LOOPBACK, f"--nproc-per-node={processes}"]
    cores = os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    environment = {"OMP_NUM_THREADS": cores, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*torchrun, __file__, *arguments], env=os.environ | environment, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


def measure(given: argparse.Namespace) -> None:
    """Train as one of the processes; the first prints rows a second."""
    how = replace(RECIPE, kind=given.kind, batch_size=given.batch_size, epochs=1 + TIMED, patience=1 + TIMED)
    ends: list[float] = []

    def note(epoch: Epoch) -> None:
        epoch.checkpoint()
        ends.append(time.perf_counter())

    with joined(given.device) as placement:
        if placement.worker:
            follow(placement)
        else:
            examples = drawn(given.rows)
            train(examples, FLIGHTS, how, placement, on_epoch=note)
            print(trained_rows(examples, how) / (ends[-1] - ends[0]))
    end(0)


if __name__ == "__main__":
    main(sys.argv[1:])
