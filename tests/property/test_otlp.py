"""The OTLP decoder: both encodings of the same spans give the same ones, and no bytes at all crash it."""

import base64
import math
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

from services.console.otlp import JSON, PROTOBUF, answer, decode
from services.console.otlp_values import ATTRIBUTES, TEXT, Malformed
from services.console.span import KINDS, STATUSES

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
NANOS = st.integers(0, 2**63 - 1)
SCALARS = st.one_of(
    st.builds(lambda v: AnyValue(string_value=v), TEXTS),
    st.builds(lambda v: AnyValue(int_value=v), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: AnyValue(double_value=v), st.floats()),
    st.builds(lambda v: AnyValue(bool_value=v), st.booleans()),
    st.builds(lambda v: AnyValue(bytes_value=v), st.binary(max_size=12)),
    st.just(AnyValue()),
)


def pairs(values: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[list[KeyValue]]:
    return st.lists(st.builds(lambda k, v: KeyValue(key=k, value=v), TEXTS, values), max_size=most)


def nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = st.lists(values, max_size=3).map(lambda found: AnyValue(array_value={"values": found}))
    return st.one_of(arrays, pairs(values, 3).map(lambda found: AnyValue(kvlist_value={"values": found})))


VALUES = st.recursive(SCALARS, nested, max_leaves=8)


@st.composite
def spans(draw: st.DrawFn) -> Sent:
    events = draw(st.lists(st.tuples(TEXTS, NANOS, pairs(VALUES, 2)), max_size=2))
    links = draw(
        st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8)), max_size=2)
    )
    return Sent(
        trace_id=draw(st.binary(min_size=16, max_size=16)),
        span_id=draw(st.binary(min_size=8, max_size=8)),
        parent_span_id=draw(st.one_of(st.just(b""), st.binary(min_size=8, max_size=8))),
        name=draw(TEXTS),
        kind=draw(st.integers(0, 5)),
        start_time_unix_nano=draw(NANOS),
        end_time_unix_nano=draw(NANOS),
        attributes=draw(pairs(VALUES)),
        status={"code": draw(st.integers(0, 2)), "message": draw(TEXTS)},
        events=[Sent.Event(name=n, time_unix_nano=t, attributes=a) for n, t, a in events],
        links=[Sent.Link(trace_id=t, span_id=s) for t, s in links],
    )


def request(sent: list[Sent], service: str = "features") -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    resource.scope_spans.add().spans.extend(sent)
    return made


def as_json(made: ExportTraceServiceRequest) -> bytes:
    """Encode by the specification's mapping: protobuf's own, but for hex ids and numbers for enums."""
    return msgspec.json.encode(_hexed(MessageToDict(made, use_integers_for_enums=True)))


def _hexed(found: Any) -> Any:
    if isinstance(found, list):
        return [_hexed(one) for one in found]
    if not isinstance(found, dict):
        return found
    return {
        field: base64.b64decode(value).hex() if field in ("traceId", "spanId", "parentSpanId") else _hexed(value)
        for field, value in found.items()
    }


@given(st.lists(spans(), max_size=3), TEXTS)
@settings(max_examples=150, deadline=None)
def test_both_encodings_give_the_same_spans(sent: list[Sent], service: str) -> None:
    """Protobuf and JSON of the same spans give the same rows, refusals included."""
    made = request(sent, service)
    binary = decode(PROTOBUF, made.SerializeToString())
    assert binary == decode(JSON, as_json(made))
    assert len(binary.spans) + binary.rejected == len(sent)


@given(spans())
@settings(max_examples=100, deadline=None)
def test_a_span_says_what_was_sent(sent: Sent) -> None:
    """Ids, names, times, kind and status are those of the message; what JSON can't say is a word."""
    batch = decode(PROTOBUF, request([sent]).SerializeToString())
    ids = [sent.trace_id, sent.span_id, *([sent.parent_span_id] if sent.parent_span_id else [])]
    ids += [one for link in sent.links for one in (link.trace_id, link.span_id)]
    if not all(any(one) for one in ids):
        assert batch == ([], 1)
        return
    (span,) = batch.spans
    assert (span.trace_id, span.span_id) == (sent.trace_id.hex(), sent.span_id.hex())
    assert (span.name, span.service) == (sent.name, "features")
    assert (span.start_ns, span.end_ns) == (sent.start_time_unix_nano, sent.end_time_unix_nano)
    assert (span.kind, span.status) == (KINDS[sent.kind], STATUSES[sent.status.code])
    assert [link["span_id"] for link in span.links] == [link.span_id.hex() for link in sent.links]
    assert msgspec.json.decode(msgspec.json.encode(span))["name"] == sent.name
    for pair in sent.attributes:
        if pair.value.HasField("double_value") and math.isnan(pair.value.double_value):
            assert pair.key in span.attributes


@given(st.sampled_from([PROTOBUF, JSON]), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_crash_it(media: str, body: bytes) -> None:
    """Any bytes are spans, or Malformed: nothing else is raised."""
    try:
        decode(media, body)
    except Malformed:
        return


@given(st.lists(spans(), min_size=1, max_size=2), st.data())
@settings(max_examples=200, deadline=None)
def test_no_bytes_that_were_nearly_spans_crash_it(sent: list[Sent], data: st.DataObject) -> None:
    """A body with some bytes changed or cut off is spans, or Malformed."""
    made = request(sent)
    media = data.draw(st.sampled_from([PROTOBUF, JSON]))
    body = bytearray(made.SerializeToString() if media == PROTOBUF else as_json(made))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(media, bytes(body[: data.draw(st.integers(0, len(body)))]))
    except Malformed:
        return


JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["spans", "value"]), inner)),
)
FIELDS = ("traceId", "spanId", "kind", "startTimeUnixNano", "attributes", "events", "links", "status", "name")


@given(st.dictionaries(st.sampled_from(FIELDS), JSONS))
@settings(max_examples=200, deadline=None)
def test_no_json_crashes_it(span: dict[str, Any]) -> None:
    """A span of any JSON is one span, one refusal, or Malformed."""
    body = msgspec.json.encode({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    try:
        batch = decode(JSON, body)
    except Malformed:
        return
    assert len(batch.spans) + batch.rejected == 1


def test_what_is_large_is_cut() -> None:
    """Neither a text nor how many attributes there are, nor how deep they go, is the sender's alone to say."""
    sent = Sent(trace_id=b"t" * 16, span_id=b"s" * 8, name="n" * 9_999)
    for number in range(500):
        sent.attributes.add(key=f"a{number}").value.int_value = number
    deep = sent.attributes[0].value
    for _ in range(20):
        deep = deep.array_value.values.add()
    (span,) = decode(PROTOBUF, request([sent]).SerializeToString()).spans
    assert len(span.name) == TEXT
    assert len(span.attributes) == ATTRIBUTES
    assert str(span.attributes["a0"]).count("[") <= 5
    nested = b'{"resourceSpans":' + b"[" * 100_000
    with pytest.raises(Malformed):
        decode(JSON, nested)


@pytest.mark.parametrize("media", [PROTOBUF, JSON])
def test_a_sender_hears_how_many_were_refused(media: str) -> None:
    """Spans with bad ids cost nobody but themselves, and the answer says how many they were."""
    good, bad = Sent(trace_id=b"t" * 16, span_id=b"s" * 8), Sent(trace_id=b"\0" * 16, span_id=b"s" * 8)
    made = request([bad, good])
    batch = decode(media, made.SerializeToString() if media == PROTOBUF else as_json(made))
    assert (len(batch.spans), batch.rejected) == (1, 1)
    said = answer(media, 1)
    assert b"rejectedSpans" in said if media == JSON else b"16 and 8 bytes" in said
    assert answer(PROTOBUF, 0) == b""
