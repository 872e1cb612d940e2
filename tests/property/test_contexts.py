"""Trace contexts in headers: what is written is read, what can't be read is none, and nothing crashes a reader."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.contexts import (
    TRACEPARENT,
    TRACES,
    TRACESTATE,
    Context,
    carried,
    rows_carried,
    with_context,
    with_rows,
)
from services.runtime.records import Outgoing, Record

NONE = "0" * 64


def ids(digits: int) -> st.SearchStrategy[str]:
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


contexts = st.builds(Context, ids(32), ids(16), st.booleans())
names = st.from_regex(r"[a-z0-9][a-z0-9_\-*/@]{0,9}", fullmatch=True)
values = st.from_regex(r"[ -+\--<>-~]{0,9}[!-+\--<>-~]", fullmatch=True)
states = st.dictionaries(names, values, max_size=20).map(lambda said: ",".join(f"{k}={v}" for k, v in said.items()))
sampled = st.builds(Context, ids(32), ids(16), st.just(value=True), states)
headers = st.one_of(st.binary(max_size=60), st.none(), st.text(max_size=60))


def arrived(out: Outgoing) -> Record:
    return Record(out.topic, 0, 0, out.key, out.value, 0, out.headers)


@given(contexts)
def test_a_context_is_read_as_it_was_written(context: Context) -> None:
    """parse(str(context)) is the context, as text and as bytes."""
    assert Context.parse(str(context)) == context == Context.parse(str(context).encode())


@given(contexts, st.integers(0, 255), st.integers(1, 254))
def test_flags_and_versions_to_come_are_read_as_the_standard_says(context: Context, flags: int, version: int) -> None:
    """Of the flags only the lowest bit counts, and of a later version what version 00 has."""
    expected = Context(context.trace_id, context.span_id, bool(flags & 1))
    ids = f"{context.trace_id}-{context.span_id}-{flags:02x}"
    assert Context.parse(f"00-{ids}") == expected
    assert Context.parse(f"{version:02x}-{ids}-more") == expected


@given(contexts)
def test_what_the_standard_calls_invalid_is_none(context: Context) -> None:
    """Version ff, ids of zeros, capitals, a longer version 00 and shorter ids are no context."""
    good = str(context)
    wrong = ["", None, f"ff{good[2:]}", f"{good}-more", good[:-1], f" {good}", f"{good}\n", good.replace("-", "_")]
    wrong += [f"00-{NONE[:32]}-{context.span_id}-01", f"00-{context.trace_id}-{NONE[:16]}-01"]
    wrong += [] if good.upper() == good else [good.upper()]
    assert [Context.parse(text) for text in wrong] == [None] * len(wrong)


@given(sampled, states)
def test_a_state_is_handed_on_as_it_came(context: Context, state: str) -> None:
    """Of a sampled caller, in its order, white space and empty members aside; one that is not sampled has none."""
    text = str(context)
    assert Context.parse(text, state.encode()) == msgspec.structs.replace(context, state=state)
    spaced = state.replace(",", " ,\t")
    assert Context.parse(text, f" ,{spaced}, ") == msgspec.structs.replace(context, state=state)
    assert Context.parse(f"{text[:-2]}00", state) == Context(context.trace_id, context.span_id, sampled=False)


def many(count: int) -> str:
    return ",".join(f"k{number}=v" for number in range(count))


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (many(32), True),
        (f"k={'v' * 256},l={'v' * 251}", True),
        (f"k={'v' * 256},l={'v' * 252}", False),
        (f"k={'v' * 257}", False),
        (f"{'k' * 257}=v", False),
        (many(33), False),
        ("k=1,k=2", False),
        ("k", False),
        ("K=1", False),
        ("k=a=b", False),
        ("k=\u00e9", False),
        ("k=\x7f", False),
        ("k=", False),
    ],
)
def test_a_state_that_the_standard_does_not_know_is_dropped(state: str, *, kept: bool) -> None:
    """More than 32 members or 512 characters, a name twice, or what is no member: the trace goes on without it."""
    context = Context.parse(f"00-{'ab' * 16}-{'cd' * 8}-01", state)
    assert context == Context("ab" * 16, "cd" * 8, state=state if kept else "")


@given(sampled, st.lists(st.tuples(st.text(max_size=9), headers), max_size=3))
def test_a_record_carries_its_context_beside_its_other_headers(context: Context, others: Any) -> None:
    """with_context adds a header and takes none away; carried finds it."""
    out = with_context(Outgoing("t", b"value", headers=others), context)
    assert carried(arrived(out)) == context
    assert (out.headers or [])[: len(others)] == others
    assert len(out.headers or []) == len(others) + 1 + bool(context.state)
    assert out.value == b"value"


@given(st.dictionaries(st.integers(0, 5000), sampled, max_size=20))
def test_a_batch_carries_the_contexts_of_its_rows(rows: dict[int, Context]) -> None:
    """with_rows and rows_carried are inverse, and a batch without sampled rows has no header for it."""
    out = with_rows(Outgoing("t", b""), rows)
    assert rows_carried(arrived(out)) == rows
    assert bool(out.headers) is bool(rows)


@given(st.lists(st.tuples(st.sampled_from([TRACEPARENT, TRACESTATE, TRACES, "other"]), headers), max_size=4))
def test_no_header_crashes_a_reader(found: Any) -> None:
    """Whatever stands in the headers is a context, rows of contexts, or none."""
    record = Record("t", 0, 0, None, b"", 0, found)
    context = carried(record)
    assert context is None or Context.parse(str(context), context.state) == context
    assert all(row.sampled for row in rows_carried(record).values())
