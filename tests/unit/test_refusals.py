"""The audit of refusals: each is told or counted into what is told, and nobody fills the disk by being refused."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from services.ingestion import audit
from services.ingestion.audit import Audit, Refusal
from services.runtime.logs import Json, Text

ONE = Refusal(403, "scope", "POST", "/v1/streams/{stream}/events", "192.0.2.7", "0123456789ab", "airline")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect the audit's lines as they are logged for machines; a second lasts a fiftieth."""
    monkeypatch.setattr(audit, "TOGETHER_S", 0.02)
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(Json("ingestion", "1").format(record))  # type: ignore[method-assign]
    audit.log.addHandler(handler)
    yield told
    audit.log.removeHandler(handler)


def fields(lines: list[str]) -> list[dict[str, str | int]]:
    return [json.loads(line)["fields"] for line in lines]


def note(refusals: list[Refusal], counted: Counter[tuple[str, str]], wait: float = 0.0) -> None:
    """Have so many refused in a loop that ends after a wait."""

    async def refuse() -> None:
        of = Audit(lambda reason, route: counted.update([(reason, route)]))
        for refusal in refusals:
            of.note(refusal)
        await asyncio.sleep(wait)
        of.close()

    asyncio.run(refuse())


def test_a_line_says_who_from_where_and_why(lines: list[str]) -> None:
    """One refusal is one line at once, in words and in fields: status, reason, request, address, key id, producer."""
    counted = Counter[tuple[str, str]]()
    note([ONE], counted)
    assert fields(lines) == [{**msgspec.structs.asdict(ONE), "times": 1}]
    said = json.loads(lines[0])
    assert (said["level"], said["logger"]) == ("WARNING", "services.ingestion.audit")
    assert all(f"{name}={value}" in said["message"] for name, value in said["fields"].items())
    assert counted == {("scope", ONE.route): 1}


def test_what_is_not_known_is_left_out(lines: list[str]) -> None:
    """Where there is no key, none is told of."""
    note([Refusal(401, "none", "POST", "_OTHER", "192.0.2.7")], Counter())
    assert not {"key", "producer"} & fields(lines)[0].keys()


def test_a_flood_is_a_few_lines_whose_numbers_add_up(lines: list[str]) -> None:
    """10,000 alike are told of in a few lines; the numbers of lines, refusals and the metric are the same."""
    counted = Counter[tuple[str, str]]()
    other = msgspec.structs.replace(ONE, reason="stream")
    note([ONE] * 10_000 + [other], counted, 0.1)
    assert len(lines) <= 4
    told = Counter[object]()
    for line in fields(lines):
        told[line["reason"]] += int(line["times"])
    assert told == {"scope": 10_000, "stream": 1}
    assert counted.total() == 10_001


def test_many_addresses_take_no_memory(lines: list[str]) -> None:
    """Of more kinds than `MOST` at once, the rest is told as of many: still each is counted."""
    kinds = [msgspec.structs.replace(ONE, address=f"192.0.2.{n}", key="") for n in range(3 * audit.MOST)]
    note(kinds, Counter(), 0.2)
    assert len(lines) <= audit.MOST + 10
    assert sum(int(line["times"]) for line in fields(lines)) == len(kinds)
    assert audit.MANY in {line["address"] for line in fields(lines)}


def test_a_kind_is_told_again_once_its_second_is_over(lines: list[str]) -> None:
    """Nothing is kept for ever: a refusal that comes later is told at once."""

    async def refuse() -> None:
        of = Audit(lambda _reason, _route: None)
        for _ in range(2):
            of.note(ONE)
            await asyncio.sleep(0.3)

    asyncio.run(refuse())
    assert [line["times"] for line in fields(lines)] == [1, 1]


@pytest.mark.parametrize("form", [Text("ingestion"), Json("ingestion", "1")])
def test_a_key_that_gets_into_a_line_is_masked(form: logging.Formatter) -> None:
    """Should anything ever log a key, its secret is masked and its id stays."""
    said = f"sent thalweg_0123456789ab_{'s' * 43} by mistake"
    line = form.format(logging.LogRecord("a", logging.INFO, "a.py", 1, said, None, None))
    assert "s" * 43 not in line
    assert "thalweg_0123456789ab_*** by mistake" in line
