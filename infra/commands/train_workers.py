"""`thalweg train --processes N`: the same command in N processes, which train one network together (`torchrun`)."""

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence

from infra.local.processes import ChildDied, dies_with_us
from services.runtime.errors import ThalwegError

LOOPBACK = "127.0.0.1"
GRACE_S = 5
INTERRUPTED = 130


def spread(given: argparse.Namespace, train: Callable[[argparse.Namespace], int]) -> int:
    """Train in as many processes as are asked for; return the exit status. `train` is called in one of them alone.

    Raise ValueError for more processes than GPUs, ChildDied where one of them was killed.
    """
    import torch  # noqa: PLC0415 - seconds and a gigabyte that no other command shall wait for

    from services.trainer import workers  # noqa: PLC0415
    from services.trainer.machine import best_device  # noqa: PLC0415

    given.device = given.device or best_device()
    if workers.started():
        return _work(given, train)
    processes = wanted(given.processes, given.device, torch.cuda.device_count())
    return launch(processes, ["train", *_again(given)]) if processes > 1 else train(given)


def wanted(processes: int | None, device: str, gpus: int) -> int:
    """Return how many processes to train in: as many as asked for, else one a GPU; 1 on a CPU, or on one named GPU."""
    if processes is None:
        return max(1, gpus) if device == "cuda" else 1
    if processes < 1:
        raise ValueError(f"--processes {processes}: it takes one at least")
    if device != "cpu" and processes > (gpus if device == "cuda" else 1):
        raise ValueError(f"--processes {processes}: each needs a GPU of its own, and {gpus} can be used as cuda here")
    return processes


def _work(given: argparse.Namespace, train: Callable[[argparse.Namespace], int]) -> int:
    """Be one of the processes, until its end."""
    from services.trainer import workers  # noqa: PLC0415

    status = 0
    try:
        with workers.joined(given.device) as placement:
            given.device = placement.device
            if placement.worker:
                workers.follow(placement)
            else:
                status = train(given)
    except (ThalwegError, ValueError, workers.WorkerLost) as error:
        print(f"\nthalweg: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = INTERRUPTED  # whoever started us says so
    workers.end(status)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `thalweg ARGUMENTS` in so many processes of this machine until all end; return the exit status.

    When one fails the others are stopped; Ctrl-C stops all. Raise ChildDied where one was killed.
    """
    from torch.distributed import run  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # we say it in our words
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as logs:
        options = {
            "nproc-per-node": processes,
            "rdzv-backend": "c10d",
            "rdzv-endpoint": f"{LOOPBACK}:0",
            "local-addr": LOOPBACK,
            "max-restarts": 0,
            "shutdown-timeout": GRACE_S,
            "log-dir": logs,
        }
        command = [*dies_with_us(), sys.executable, "-m", "infra.cli", *arguments]
        given = [*(f"--{name}={value}" for name, value in options.items()), "--no-python", *command]
        try:
            run.run(run.parse_args(given))  # type: ignore[no-untyped-call]
        except ChildFailedError as error:
            return failed({worker: failure.exitcode for worker, failure in error.failures.items()})
        except SignalException as error:
            raise KeyboardInterrupt from error
    return 0


def failed(exit_codes: dict[int, int]) -> int:
    """Return the exit status of those that said themselves what is wrong; raise ChildDied for one that could not."""
    for worker, code in exit_codes.items():
        if code < 0:
            raise ChildDied(
                f"worker {worker} was killed ({signal.Signals(-code).name}), and the others were stopped;"
                " call `thalweg train` again to go on from the last epoch that ended"
            )
    return max(exit_codes.values())


def _again(given: argparse.Namespace) -> list[str]:
    """Return the arguments of `thalweg train` that say what these say, but for the number of processes."""
    said = {name: value for name, value in vars(given).items() if name not in ("run", "processes")}
    return [f"--{name.replace('_', '-')}={value}" for name, value in said.items() if value not in (None, "")]
