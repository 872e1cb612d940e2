"""Triton stops answering in the middle of a run: the events wait, inference says so, and nothing is lost or doubled."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.ledger import Ledger
from infra.local.replayer import Replayer, records
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.stream import load_stream

SCHEMAS = REPOSITORY / "schemas"
STREAM = load_stream(SCHEMAS, "flights")
OUTAGE_S = 4


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("THALWEG_INFERENCE_TIMEOUT_S", "1")
    with Stack(Options("flights", run_dir=tmp_path), STREAM, SCHEMAS) as running:
        yield running


def test_an_outage_of_triton_delays_predictions_and_loses_none(stack: Stack) -> None:
    """Events that come while Triton is frozen are predicted once it goes on, exactly once, and the log says why."""
    ledger = Ledger(stack.settings, STREAM)
    replayer = Replayer(STREAM, stack.ingestion, records(SCHEMAS, "flights", 1500), float("inf"), stack.check)
    stack.children["triton"].pause()
    try:
        sent = replayer.run(lambda: None)
        time.sleep(OUTAGE_S)
        assert not ledger.arrived
    finally:
        stack.children["triton"].resume()
    deadline = time.monotonic() + 60
    while not ledger.complete(sent) and time.monotonic() < deadline:
        stack.check()
        time.sleep(0.1)
    ledger.close()
    counts = ledger.counts(sent)
    assert (counts["events_sent"], counts["missing"], counts["duplicates"]) == (1500, 0, 0)
    assert counts["examples"] == counts["labels_sent"]
    assert min(ledger.latencies_ms(sent).values()) > OUTAGE_S * 1000
    assert "nothing is lost: Triton at" in (stack.folder / "logs" / "inference.log").read_text()
