"""Training on a GPU: the laws of `test_trainer_core.py` that a device could break. Skipped where PyTorch sees none."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_trainer_core import GRU, LAYOUT, QUICK, ROOT, before, made, noisy, turned, weights

from services.trainer.core import Recipe, Trained, train
from services.trainer.examples import Examples
from services.trainer.networks import scores, side_by_side
from services.trainer.stepping import Placement

if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no GPU on this machine", allow_module_level=True)

GPU = Placement("cuda")
KINDS = pytest.mark.parametrize("recipe", [QUICK, GRU], ids=lambda recipe: recipe.kind)


def on_gpu(examples: Examples, recipe: Recipe) -> tuple[Trained, list[bytes]]:
    found: list[bytes] = []
    return train(examples, LAYOUT, recipe, GPU, on_epoch=lambda epoch: found.append(epoch.checkpoint())), found


@KINDS
def test_resumed_is_uninterrupted(recipe: Recipe) -> None:
    """Whichever epoch it is resumed after, a training ends in the same weights, bit for bit, and the same losses."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what cuDNN asks of those who want a GRU to be deterministic
    examples = made(600, noisy)
    whole, found = on_gpu(examples, recipe)
    for checkpoint in found:
        resumed = train(examples, LAYOUT, recipe, GPU, checkpoint=checkpoint)
        assert (resumed.losses, resumed.best) == (whole.losses, whole.best)
        assert weights(resumed) == weights(whole)


def test_a_gpu_learns_what_a_cpu_learns() -> None:
    """In bfloat16, compiled, a network is as good on rows that it was never trained on as one trained on the CPU."""
    examples, recipe = made(4000, turned), replace(QUICK, epochs=6)
    fresh = made(2000, turned, seed=1)
    for placement in (GPU, Placement()):
        trained = train(examples, LAYOUT, recipe, placement)
        assert ((scores(trained.network, fresh.vectors) > 0.5) == (fresh.labels > 0)).mean() > 0.95
        assert trained.calibration_loss[1] < 0.15
    assert train(made(4000, before), LAYOUT, replace(GRU, epochs=8), GPU).calibration_loss[1] < 0.25


@KINDS
def test_its_graph_says_the_same(recipe: Recipe) -> None:
    """What a GPU has trained is exported as what a CPU has: to 1e-5 of its network, over 10,000 rows."""
    check = pytest.importorskip("services.trainer.export", reason="onnx and onnxruntime are not here")
    examples = made(4000, noisy)
    trained, _ = on_gpu(examples, recipe)
    rows = examples.vectors
    if recipe.kind == "gru":
        draw = np.random.default_rng(0)
        rows = side_by_side(rows, draw.integers(0, len(rows), (len(rows), recipe.steps)))
    assert len(check.export(trained.network, rows)) > 1000


WORKER = """
from services.trainer.core import train
from services.trainer.workers import end, follow, joined
from test_trainer_core import LAYOUT, QUICK, made, noisy

with joined("cuda") as placement:
    if placement.worker:
        follow(placement)
    else:
        print(train(made(600, noisy), LAYOUT, QUICK, placement).calibration_loss[1])
end(0)
"""


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs a GPU for each worker, and there is one")
def test_two_workers_are_as_good_as_one() -> None:
    """Workers that `torchrun` has started, each on its GPU, train together what one trains."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "unit")])
    done = subprocess.run(
        [*torchrun, sys.executable, "-c", WORKER],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = train(made(600, noisy), LAYOUT, QUICK, GPU).calibration_loss[1]
    assert float(done.stdout) == pytest.approx(alone, abs=0.05)
