"""Places for loops to run in."""

from pathlib import Path

import pytest

from tests.loops import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def two(tmp_path: Path) -> Place:
    return Place(tmp_path, partitions=2)


@pytest.fixture
def pair(tmp_path: Path) -> Place:
    return Place(tmp_path, topics=("left", "right"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Return a file that an attack makes, if it comes to run anything."""
    return tmp_path / "canary"
