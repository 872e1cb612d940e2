"""The security page promises nothing that no test shows: each test that it names is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "infra" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


def functions(path: Path) -> set[str]:
    found = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_is_named_is_there(file: str, test: str) -> None:
    """The file exists, and in it the test; one that is named without a test has some."""
    found = functions(ROOT / file)
    assert test in found if test else any(name.startswith("test_") for name in found)


def test_each_promise_has_a_test() -> None:
    """Every row of the table of what holds names at least one test."""
    table = PAGE.partition("## What holds")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    assert len(rows) >= 15
    assert [row for row in rows if "`tests/" not in row] == []
