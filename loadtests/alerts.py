"""Causes alerts in a run that is under load, and says after how long each fired, and after how long it was over.

    python -m loadtests.alerts [--factor 30] [--only WORDS]

Rules are those of infra/prometheus with all durations divided by the factor; Prometheus is Debian's package.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra.chaos.alerting import Prometheus
from infra.chaos.load import Load, endless
from infra.local.replayer import turned
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.stream import load_stream

FIRES_S, ENDS_S = 120.0, 240.0
RATE = 100.0  # events a second
TURNED_AFTER = 4000  # events
SETTINGS = {"THALWEG_SNAPSHOT_EVERY_S": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factor", type=int, default=30)
    parser.add_argument("--only", default="", metavar="WORDS", help="cause only what has these words")
    given = parser.parse_args()
    stream = load_stream(REPOSITORY / "schemas", "flights")
    folder = Path(tempfile.mkdtemp(prefix="alerts-"))
    options = Options("flights", run_dir=folder / "run", settings=SETTINGS)
    with Stack(options, stream, REPOSITORY / "schemas") as stack:
        tower = Prometheus(stack.children, folder / "prometheus", options.run_dir, given.factor)
        timed = turned(endless(REPOSITORY / "schemas", stream), stream, TURNED_AFTER)
        load = Load(stream, stack.ingestion, timed, RATE)
        load.start()
        print(f"before anything is caused: {_settled(tower, stack)}", flush=True)
        done = [_caused(tower, stack, *cause) for cause in causes(stack) if given.only in cause[0]]
        load.stop_soon()
    return 0 if all(done) else 1


def _settled(tower: Prometheus, stack: Stack) -> str:
    quiet = tower.wait(lambda _: False, 30, stack.check)
    return "waited" if quiet else f"{', '.join(sorted(tower.firing())) or 'nothing'} fires after 30 s"


def _caused(
    tower: Prometheus, stack: Stack, what: str, fault: Callable[[], Iterator[None]], expected: set[str], ends: set[str]
) -> bool:
    before = tower.firing() & expected
    with contextmanager(fault)():
        after = {name: tower.wait(_says(name), FIRES_S, stack.check) for name in sorted(expected)}
    over = {name: tower.wait(_says(name, fires=False), ENDS_S, stack.check) for name in sorted(ends)}
    print(f"{what}:", flush=True)
    for name, seconds in after.items():
        said = "did not fire" if seconds is None else f"fired {seconds:.0f} s later than the one before"
        gone = "" if name not in over else "; not over" if over[name] is None else f"; over {over[name]:.0f} s on"
        print(f"  {name}: {said}{gone}{' (fired before)' if name in before else ''}", flush=True)
    return None not in after.values()


def _says(name: str, *, fires: bool = True) -> Callable[[set[str]], bool]:
    return lambda firing: (name in firing) is fires


Cause = tuple[str, Callable[[], Iterator[None]], set[str], set[str]]


def causes(stack: Stack) -> list[Cause]:
    """Return faults, the alerts that each causes, and those of them that end soon after it is over."""

    def stopped(name: str) -> Callable[[], Iterator[None]]:
        def fault() -> Iterator[None]:
            stack.children[name].stop()
            yield
            stack.children[name].restart()

        return fault

    def paused(name: str) -> Callable[[], Iterator[None]]:
        def fault() -> Iterator[None]:
            stack.children[name].pause()
            yield
            stack.children[name].resume()

        return fault

    def no_store() -> Iterator[None]:
        state = stack.data / "state"
        state.rename(stack.data / "aside")
        state.write_text("in the way")
        yield
        state.unlink()
        (stack.data / "aside").rename(state)

    def garbage() -> Iterator[None]:
        producer = Producer({"bootstrap.servers": stack.broker.address, "log_level": 0})
        for number in range(20_000):
            producer.produce("flights.events", b"no event %d" % number, key=b"JFK")
            producer.poll(0)
        producer.flush(30)
        yield

    def no_topic() -> Iterator[None]:
        stack.children["console"].stop()  # it is not what is tried, and does not outlive its topics
        admin = AdminClient({"bootstrap.servers": stack.broker.address, "log_level": 0})
        admin.delete_topics(["flights.summaries"])["flights.summaries"].result(10)
        yield

    def nothing() -> Iterator[None]:
        yield

    away = {"ServiceWaits", "TotalStop", "AvailabilityBurnsFast", "AvailabilityBurnsSlowly", "ConsumerLags"}
    late = {"LatencyBurnsFast", "LatencyBurnsSlowly"}
    stale = {"FreshnessBurnsFast", "FreshnessBurnsSlowly"}
    return [
        ("rollout is stopped", stopped("rollout"), {"ServiceAway"}, {"ServiceAway"}),
        ("a file is where the folder of snapshots was", no_store, {"SnapshotsOld"}, {"SnapshotsOld"}),
        ("20,000 records that are no events", garbage, {"DeadLetters"}, {"DeadLetters"}),
        ("labels are turned round after 4,000 events", nothing, {"DriftStands"}, set()),
        ("the learner is frozen", paused("learner"), stale, {"FreshnessBurnsFast"}),
        ("Triton is stopped", stopped("triton"), away, {"ServiceWaits", "TotalStop", "ConsumerLags"}),
        ("what waited for Triton is predicted", nothing, late, set()),
        ("the topic of summaries is deleted", no_topic, {"SummariesStop"}, set()),
    ]


if __name__ == "__main__":
    sys.exit(main())
