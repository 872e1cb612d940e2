"""Alerts that are caused: a real Prometheus, by our rules with time made shorter, over a real run with faults."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import msgspec
import pytest

from infra.chaos.alerting import Prometheus, shortened
from infra.local.replayer import records
from infra.local.stack import Options, Stack
from services.runtime.stream import load_stream

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"
FACTOR = 60
PATIENCE_S = 90.0
CAUSED = {"ServiceAway", "ServiceWaits"}


def test_time_is_made_shorter_and_nothing_else() -> None:
    """Windows, waits and thresholds in seconds are divided; ratios, counts and labels are not."""
    rule = 'expr: a{x="5m"}[1h] > 14.4 * 0.01 and sum(thalweg_waiting_seconds) > 120 offset 10m\nfor: 2m\nb_total > 5'
    assert shortened(rule, 60) == (
        'expr: a{x="5m"}[60000ms] > 14.4 * 0.01 and sum(thalweg_waiting_seconds) > 2 offset 10000ms\n'
        "for: 2000ms\nb_total > 5"
    )


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is missing; install it with: apt-get install prometheus")
    options = Options("flights", run_dir=tmp_path / "run", otlp="off")
    with Stack(options, load_stream(SCHEMAS, "flights"), SCHEMAS) as stack:
        yield stack


def post(stack: Stack, n: int) -> None:
    events = [record for _, kind, record in islice(records(SCHEMAS, "flights", n), n) if kind == "event"]
    body = b"\n".join(map(msgspec.json.encode, events))
    where = f"{stack.ingestion}/v1/streams/flights/events"
    httpx.post(where, content=body, headers={"Content-Type": "application/x-ndjson"}, timeout=30).raise_for_status()


def test_what_is_gone_and_what_waits_call_somebody_and_are_over(stack: Stack, tmp_path: Path) -> None:
    """A service that is gone, and one that waits for Triton, fire their alerts; when all is back both are over."""
    tower = Prometheus(stack.children, tmp_path / "prometheus", stack.options.run_dir, FACTOR)
    assert tower.wait(lambda firing: not firing & CAUSED, PATIENCE_S, stack.check) is not None
    for name in ("rollout", "triton"):
        stack.children[name].stop()
    post(stack, 20)
    assert tower.wait(lambda firing: firing >= CAUSED, PATIENCE_S, stack.check) is not None, tower.firing()
    for name in ("rollout", "triton"):
        stack.children[name].restart()
    assert tower.wait(lambda firing: not firing & CAUSED, PATIENCE_S, stack.check) is not None, tower.firing()
