"""What a stream's folder says to the trainer."""

from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from services.runtime.errors import ConfigError
from services.runtime.grammar import BatchRule
from services.runtime.stream import load_stream
from services.trainer.core import Recipe
from services.trainer.recipe import layout, recipe

SCHEMAS = Path(__file__).parents[2] / "schemas"


def test_a_recipe_is_the_section() -> None:
    """Each key of `[batch]` is a field of the recipe and each field a key, in the same order."""
    when = {"train_every", "train_after", "on_alert", "alert_examples", "alerts_per_day", "cool_down"}
    said = set(BatchRule.__struct_fields__) - when
    assert {field.name for field in fields(Recipe)} == said
    stream = load_stream(SCHEMAS, "flights")
    assert recipe(stream).shape.width == 128
    assert vars(recipe(stream)).items() <= msgspec.structs.asdict(stream.pipeline.batch).items()


def test_a_stream_without_the_section() -> None:
    """Without `[batch]` there is no network to train, and the error says what to add."""
    stream = load_stream(SCHEMAS, "flights")
    bare = msgspec.structs.replace(stream, pipeline=msgspec.structs.replace(stream.pipeline, batch=None))
    with pytest.raises(ConfigError, match=r"flights/pipeline.toml has no \[batch\] section; add one"):
        recipe(bare)


def test_the_layout_of_flights() -> None:
    """One-hot columns make a group a feature, all others are numbers, and each column is told once."""
    stream = load_stream(SCHEMAS, "flights")
    found = layout(stream)
    named = [[stream.columns[column] for column in group] for group in found.groups]
    assert [len(group) for group in named] == [12, 3]
    assert named[0][0] == "carrier=UA"
    assert named[1] == ["origin=EWR", "origin=JFK", "origin=LGA"]
    numbers = [stream.columns[column] for column in found.numbers]
    assert numbers[:3] == ["delay", "distance", "weekday_sin"]
    assert sorted([*found.numbers, *found.groups[0], *found.groups[1]]) == list(range(len(stream.columns)))
