"""A stack on Apache Kafka whose parts are killed, started again, added and removed: nothing is lost or doubled."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import brokers, triton
from infra.local.ledger import Ledger
from infra.local.replayer import Replayer, Sent, records
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.stream import load_stream

MISSING = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"Apache Kafka needs {' and '.join(MISSING)}, which this machine lacks"
)
SCHEMAS = REPOSITORY / "schemas"
STREAM = load_stream(SCHEMAS, "flights")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    options = Options("flights", broker="kafka", run_dir=tmp_path, instances={"features": 2})
    with Stack(options, STREAM, SCHEMAS) as running:
        yield running


def shared_memory(stack: Stack) -> set[Path]:
    """Return what Triton keeps in shared memory, which outlives it when it is killed."""
    return set(Path("/dev/shm").glob(f"{triton._shared_memory(stack.folder)}*"))  # noqa: S108 - where Linux keeps it


def complete(stack: Stack, ledger: Ledger, sent: Sent) -> None:
    deadline = time.monotonic() + 60
    while not ledger.complete(sent) and time.monotonic() < deadline:
        stack.check()
        time.sleep(0.1)


def test_parts_come_and_go_and_every_event_is_predicted_once(stack: Stack) -> None:
    """Triton is killed and answers at its address again, without what it left; instances of features leave and join."""
    names = {child.name: child.kind for child in stack.children}
    assert {name for name, kind in names.items() if kind == "features"} == {"features-1", "features-2"}
    ledger = Ledger(stack.settings, STREAM)
    stack.children["triton"].kill()
    left = shared_memory(stack)
    assert left
    stack.children.remove("features-1")
    replayer = Replayer(STREAM, stack.ingestion, records(SCHEMAS, "flights", 1500), float("inf"), stack.check)
    sent = replayer.run(lambda: None)
    stack.children["triton"].restart()
    assert not left & shared_memory(stack)
    assert stack.instances.add("features").name == "features-1"
    brokers.wait_joined(stack.broker, stack.children, {"flights.features": 2})
    complete(stack, ledger, sent)
    ledger.close()
    counts = ledger.counts(sent)
    assert (counts["events_sent"], counts["missing"], counts["duplicates"]) == (1500, 0, 0)
    assert counts["examples"] == counts["labels_sent"]
