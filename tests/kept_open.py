"""What several test files share is made once, and ends when the last of their folder is through."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

import pytest

Made = TypeVar("Made")
_OPEN = pytest.StashKey[dict[str, Any]]()


def kept_open(request: pytest.FixtureRequest, name: str, make: Callable[[], AbstractContextManager[Made]]) -> Made:
    """Return what a fixture of a module has for all modules of its folder."""
    folder = request.node.parent
    found = folder.stash.setdefault(_OPEN, {})
    if name not in found:
        stack = ExitStack()
        found[name] = stack.enter_context(make())
        folder.addfinalizer(stack.close)
        folder.addfinalizer(lambda: found.pop(name))
    made: Made = found[name]
    return made
