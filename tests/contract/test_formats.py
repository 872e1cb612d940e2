"""What a service keeps has a format: who changes how a state is laid out raises it, and older ones are folded again."""

import ast
from pathlib import Path

import pytest

from services.learner import model
from services.runtime import stream
from services.runtime.stream import load_stream

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
STATEFUL = {  # where the name of a state is made, and what in it is the format
    "features": ("runtime/stream.py", "ENGINE"),
    "labels": ("labels/__main__.py", "FORMAT"),
    "learner": ("learner/model.py", "FORMAT"),
    "rollout": ("rollout/__main__.py", "FORMAT"),
    "trainer": ("trainer/__main__.py", "FORMAT"),
    "drift": ("drift/tables.py", "FORMAT"),
    "console": ("console/store.py", "VERSION"),
}
STATELESS = {"ingestion", "inference"}


def test_each_service_is_one_or_the_other() -> None:
    """Every service either keeps nothing or has a format."""
    assert {path.parent.name for path in SERVICES.glob("*/__main__.py")} == STATELESS | set(STATEFUL)


@pytest.mark.parametrize("service", STATEFUL)
def test_a_states_name_has_its_format(service: str) -> None:
    """The format is read where the name is made: in a text with fields, or in what is hashed."""
    file, name = STATEFUL[service]
    tree = ast.parse((SERVICES / file).read_text())
    fields = {
        inner.id
        for node in ast.walk(tree)
        if isinstance(node, ast.FormattedValue | ast.List)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name)
    }
    assert name in fields


def test_another_format_is_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raising the engine's number, or the learner's format, makes what was kept unusable."""
    flights = load_stream(ROOT / "schemas", "flights")
    before = flights.feature_set, model.fingerprint(flights)
    monkeypatch.setattr(stream, "ENGINE", stream.ENGINE + 1)
    monkeypatch.setattr(model, "FORMAT", model.FORMAT + 1)
    assert load_stream(ROOT / "schemas", "flights").feature_set != before[0]
    assert model.fingerprint(flights) != before[1]
