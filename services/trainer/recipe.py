"""What a stream's folder says to the trainer: the recipe of its `[batch]` section, and what each column is."""

from dataclasses import fields

from services.runtime.errors import ConfigError
from services.runtime.grammar import OneHot
from services.runtime.stream import Stream
from services.trainer.core import Recipe
from services.trainer.networks import Layout


def recipe(stream: Stream) -> Recipe:
    """Return how the stream's network is trained; raise ConfigError where the stream has no `[batch]`."""
    rule = stream.pipeline.batch
    if rule is None:
        raise ConfigError(f"{stream.name}/pipeline.toml has no [batch] section; add one, it may be empty")
    return Recipe(**{field.name: getattr(rule, field.name) for field in fields(Recipe)})


def layout(stream: Stream) -> Layout:
    """Return which columns are numbers, and which are the one-hot columns of one feature."""
    numbers: list[int] = []
    groups: list[tuple[int, ...]] = []
    first = 0
    for name, operator in stream.pipeline.features.items():
        columns = range(first, first + len(operator.columns(name)))
        if isinstance(operator, OneHot):
            groups.append(tuple(columns))
        else:
            numbers += columns
        first = columns.stop
    return Layout(tuple(numbers), tuple(groups))
