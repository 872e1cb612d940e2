"""The sender of the hostile run: malformed records with good ones between them, and what must become of each."""

import json
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

import httpx
from bodies import NDJSON, Bodies
from confluent_kafka import KafkaError, Message, Producer
from witness import Expected

from infra.local.malformed import SPOILT, extreme, spoil
from infra.local.replayer import Timed
from services.runtime.dead_letters import CARRIED
from services.runtime.stream import Stream

GOOD, BAD = 10, 190  # records of a slice: one in twenty is good
RARE = 0.02  # how often a kind of half a megabyte is drawn, where another is drawn once
FUTURE, PAST = "2200-01-01T00:00:00Z", "1970-01-01T00:00:00Z"
MEGABYTE = 1 << 20


class Line(NamedTuple):
    """A record to send. Bad ones have `reasons`; the door sees what is wrong with it, or else only the service does."""

    kind: str
    value: bytes
    key: bytes | None
    reasons: frozenset[str] = frozenset()
    door: bool = True


class Attack:
    """Sends slices, in turn over HTTP and straight to Kafka."""

    def __init__(self, url: str, broker: str, stream: Stream, rng: Random) -> None:
        self._stream, self._rng = stream, rng
        self._schemas = {"events": stream.sent("event"), "labels": stream.sent("label")}
        self._times = {"events": stream.pipeline.stream.time, "labels": stream.pipeline.label.time}
        self._client = httpx.Client(base_url=f"{url}/v1/streams/{stream.name}", timeout=60)
        self.bodies = Bodies(url, f"/v1/streams/{stream.name}/events")
        settings: dict[str, Any] = {"bootstrap.servers": broker, "partitioner": "murmur2_random", "log_level": 0}
        self._producer = Producer(settings)
        packing = {"compression.type": "gzip", "message.max.bytes": 64 * MEGABYTE}
        self._packer = Producer(settings | packing)
        self._templates: dict[str, dict[str, Any]] = {}
        self._made = 0
        self.expected = Expected()

    def send(self, number: int, good: Sequence[Timed]) -> None:
        """Send one slice: its good records in their order, and the bad ones around them."""
        for kind in ("events", "labels"):
            mine = [record for _, what, record in good if f"{what}s" == kind]
            self._templates |= {kind: mine[-1]} if mine else {}
            if kind in self._templates:
                lines = self._mixed(self._good(kind, mine), [self._bad(kind, number) for _ in range(BAD // 2)])
                (self._over_http if number % 2 else self._to_kafka)(kind, lines)
        if number % 2:
            kinds = list(self.bodies.kinds)
            self._body(kinds[(number - 1) % len(kinds)])
            self._body(kinds[number % len(kinds)])
        elif number % 20 == 0:
            self._packed(number)

    # What a slice holds

    def _good(self, kind: str, mine: Sequence[dict[str, Any]]) -> list[Line]:
        """Return the recorded lines, some of them sent twice, and some that look odd but are good."""
        lines = list[Line]()
        for record in mine:
            lines.append(self._line("good", record))
            if self._rng.random() < 0.3:  # noqa: PLR2004 - about a third
                lines.append(self._line("duplicate", record, "duplicate", door=False))
        if kind == "events":
            odd = extreme(self._rng, self._schemas[kind], self._named(kind))
            lines.append(Line("good, extreme", odd, self._key(kind)))
            lines.append(self._line("good, from 1970", {**self._named(kind), self._times[kind]: PAST}))
        return lines

    def _bad(self, kind: str, number: int) -> Line:
        of_log = [] if number % 2 else ["wrong key", "no key", "huge key", "tombstone"]
        kinds = [*SPOILT, "clock", *of_log]
        [what] = self._rng.choices(kinds, [RARE if what in ("too large", "huge key") else 1.0 for what in kinds])
        if what in SPOILT:
            value = spoil(what, self._rng, self._schemas[kind], self._named(kind))
            return Line(what, value, self._key(kind), SPOILT[what][1])
        if what == "clock":
            return self._line(what, {**self._named(kind), self._times[kind]: FUTURE}, "clock", door=False)
        if what == "tombstone":
            return Line(what, b"", self._key(kind), frozenset({"json"}))
        keys = {"no key": None, "huge key": b"k" * 200_000}
        key = keys.get(what, self._rng.choice([b"", b"\xff\xfe", b"jfk", self._rng.randbytes(9)]))
        return Line(what, json.dumps(self._named(kind)).encode(), key, frozenset({"key"}))

    def _line(self, what: str, record: dict[str, Any], reason: str = "", *, door: bool = True) -> Line:
        reasons = frozenset({reason}) if reason else frozenset[str]()
        return Line(what, json.dumps(record).encode(), str(record[self._stream.key]).encode(), reasons, door)

    def _named(self, kind: str) -> dict[str, Any]:
        """Return a good record with an id that no other has."""
        self._made += 1
        return {**self._templates[kind], self._stream.pipeline.stream.id: f"made-{self._made}"}

    def _key(self, kind: str) -> bytes:
        return str(self._templates[kind][self._stream.key]).encode()

    def _mixed(self, good: list[Line], bad: list[Line]) -> list[Line]:
        """Put the good ones between the bad ones, in their order."""
        lines = list(bad)
        for place, line in zip(
            sorted(self._rng.choices(range(len(bad)), k=len(good)), reverse=True), reversed(good), strict=True
        ):
            lines.insert(place, line)
        return lines

    # How it is sent, and what must become of it

    def _over_http(self, kind: str, lines: Sequence[Line]) -> None:
        refused = {number: line for number, line in enumerate(lines, 1) if line.reasons and line.door}
        body = b"\n".join(line.value for line in lines)
        answer = self._client.post(f"/{kind}", content=body, headers={"Content-Type": NDJSON}).json()
        found = {line["line"]: line["reason"] for line in answer["rejected"] if line["message"]}
        if found.keys() != refused.keys() or answer["accepted"] != len(lines) - len(refused):
            self._complain(f"{kind}: refused lines {sorted(found.keys() ^ refused.keys())} otherwise than expected")
        for number, line in refused.items():
            if found.get(number) not in line.reasons:
                self._complain(f"{kind}: {line.kind} refused for {found.get(number)!r}: {line.value[:300]!r}")
        for number, line in enumerate(lines, 1):
            self._expect(kind, line, on_log=number not in refused)

    def _to_kafka(self, kind: str, lines: Sequence[Line]) -> None:
        for line in lines:
            self._expect(kind, line, on_log=True)
            self._produce(self._producer, kind, line)
        self._producer.flush(60)

    def _produce(self, producer: Producer, kind: str, line: Line) -> None:
        value = None if line.kind == "tombstone" else line.value
        told = partial(self._delivered, line.kind)
        producer.produce(self._stream.topic(kind), value, line.key, on_delivery=told)

    def _delivered(self, what: str, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._complain(f"the broker did not take a record ({what}): {error}")

    def _expect(self, kind: str, line: Line, *, on_log: bool) -> None:
        self.expected.kinds[f"{kind}: {line.kind}"] += 1
        if line.reasons and on_log:
            self.expected.dead(self._stream.topic(kind), line.key, line.value, line.reasons)
        elif not line.reasons:
            found = self.expected.events if kind == "events" else self.expected.labels
            found[json.loads(line.value[5 if line.value[:1] == b"\0" else 0 :])[self._stream.pipeline.stream.id]] += 1

    def _body(self, what: str) -> None:
        self.expected.kinds[f"body: {what}"] += 1
        if wrong := self.bodies.send(what, self._line("", self._named("events")).value):
            self._complain(f"body: {wrong}")

    def _packed(self, number: int) -> None:
        """Send a record that is small on its way and large on arrival; the largest are not carried by their letters."""
        value = json.dumps(self._named("events")).encode() + b" " * ((16 if number % 40 else 5) * MEGABYTE)
        line = Line("compressed", value, self._key("events"), frozenset({"size"}))
        self.expected.kinds["events: compressed"] += 1
        carried = len(value) + len(line.key or b"") <= CARRIED
        key, told = (line.key, value) if carried else (None, None)
        self.expected.dead(self._stream.topic("events"), key, told, line.reasons)
        self._produce(self._packer, "events", line)
        self._packer.flush(60)

    def _complain(self, what: str) -> None:
        self.expected.violations.append(what)
