"""The whole run at a moment, asked of its processes and of its broker; what gives no answer is in it as that."""

import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from infra.local.offsets import Asking, BrokerSilent, Offsets
from infra.local.stack import Running
from infra.local.status import INPUTS, ask
from services.runtime.alerts import Alert, decode_alert, standing
from services.runtime.chronicle import Chronicle
from services.runtime.health import Report
from services.runtime.history import Following
from services.runtime.records import Position
from services.runtime.stream import TOPICS, Stream

OUTPUTS = {  # what each service writes for others
    "ingestion": ("events", "labels"),
    "features": ("features",),
    "inference": ("predictions",),
    "labels": ("examples",),
    "learner": ("models",),
    "drift": ("summaries",),
}
PATIENCE_S = 1.0


class Service(msgspec.Struct, frozen=True):
    """A process: its own report, None if it is silent, and of its group the records a second that go in and out.

    `lag` counts, by topic, what the group has not done, and the oldest of that has waited for `lag_s`. None is unknown.
    """

    name: str
    report: Report | None
    in_rate: float | None
    out_rate: float | None
    lag: Mapping[str, int]
    lag_s: float | None


class Topic(msgspec.Struct, frozen=True):
    """A topic: how many offsets it has, and how many came in a second; None if the broker does not say."""

    name: str
    end: int | None
    rate: float | None


class Picture(msgspec.Struct, frozen=True):
    """What is seen at a moment. `broker` says what is wrong with it, nothing if it answers.

    Of models and alerts it is what was read last; they are `known` once any was.
    """

    services: list[Service]
    topics: list[Topic]
    chronicle: Chronicle
    alerts: list[Alert]
    broker: str = ""
    known: bool = True


class _Seen(msgspec.Struct, frozen=True):
    """What rates are made of: the ends of partitions, and what each group had done of them."""

    at: float
    ends: Offsets = {}
    done: Mapping[str, Offsets] = {}


class Watch:
    """Looks at a run again and again; rates are those since it looked before."""

    def __init__(self, stream: Stream, running: Running) -> None:
        self._stream, self._running, self._settings = stream, running, running.settings(stream.name)
        self._trusting = running.trusting
        groups = [f"{stream.name}.{service}" for service in INPUTS]
        self._asking = Asking(self._settings, groups)
        self._topics = {stream.topic(kind): kind for kind in TOPICS}
        self._following: dict[str, Following] = {}
        self._chronicle, self._alerts = Chronicle(stream.feature_set), list[Alert]()
        self._before = _Seen(time.monotonic())
        self._pool = ThreadPoolExecutor(8, "probes")

    def look(self) -> Picture:
        reports = {
            name: self._pool.submit(ask, url, self._trusting, PATIENCE_S)
            for name, url in self._running.services.items()
        }
        seen, wrong = self._ask_broker()
        found = {name: future.result() for name, future in reports.items()}
        services = [self._service(name, report, seen) for name, report in found.items()]
        topics = [self._topic(topic, kind, seen) for topic, kind in self._topics.items()]
        self._before = seen
        return Picture(
            services, topics, self._chronicle, [*standing(self._alerts).values()], wrong, bool(self._following)
        )

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._asking.close()
        for following in self._following.values():
            following.close()

    def _ask_broker(self) -> tuple[_Seen, str]:
        at = time.monotonic()
        try:
            ends = self._asking.ends([*self._topics])
        except BrokerSilent as error:
            return _Seen(at), f"the broker at {self._running.broker} gives no answer: {error}"
        by_topic = defaultdict[str, list[Position]](list)
        for position in ends:
            by_topic[position.topic].append(position)
        wanted = {
            f"{self._stream.name}.{service}": [one for kind in kinds for one in by_topic[self._stream.topic(kind)]]
            for service, kinds in INPUTS.items()
        }
        self._follow()
        return _Seen(at, ends, self._asking.committed(wanted)), ""

    def _follow(self) -> None:
        """Fold what is new of `models` and `alerts`."""
        for kind in ("models", "alerts"):
            if kind not in self._following:
                self._following[kind] = Following(self._settings, self._stream.topic(kind))
            for record in self._following[kind].new():
                if kind == "models":
                    self._chronicle.fold(record)
                else:
                    self._alerts.append(decode_alert(record.value))

    # What it comes to

    def _service(self, name: str, report: Report | None, seen: _Seen) -> Service:
        service = name.partition("-")[0]
        group = f"{self._stream.name}.{service}"
        done, before = seen.done.get(group, {}), self._before.done.get(group, {})
        lag, lag_s = self._lag(service, done, seen)
        outputs = {self._stream.topic(kind) for kind in OUTPUTS.get(service, ())}
        out = self._rate(seen, seen.ends, self._before.ends, outputs) if outputs else None
        return Service(name, report, self._rate(seen, done, before, set(self._topics)), out, lag, lag_s)

    def _lag(self, service: str, done: Offsets, seen: _Seen) -> tuple[dict[str, int], float | None]:
        """Return what a group has not done, by topic, and for how long the oldest of that has waited."""
        behind = {one: offset for one, offset in done.items() if offset < seen.ends.get(one, 0)}
        waiting = self._asking.waiting(behind) if behind else {}
        lag = dict.fromkeys(INPUTS.get(service, ()) if done else (), 0)
        for position, offset in behind.items():
            if waiting.get(position, 0.0) is not None:
                lag[self._topics[position.topic]] += seen.ends[position] - offset
        oldest = min((since for since in waiting.values() if since is not None), default=None)
        return lag, None if oldest is None else max(time.time() - oldest, 0.0)

    def _topic(self, topic: str, kind: str, seen: _Seen) -> Topic:
        ends = [end for position, end in seen.ends.items() if position.topic == topic]
        return Topic(kind, sum(ends) if ends else None, self._rate(seen, seen.ends, self._before.ends, {topic}))

    def _rate(self, seen: _Seen, now: Offsets, before: Offsets, topics: set[str]) -> float | None:
        """Return by how many offsets a second these topics have grown; None if it was not seen twice."""
        grown = [now[one] - before[one] for one in now.keys() & before.keys() if one.topic in topics]
        return sum(grown) / max(seen.at - self._before.at, 1e-3) if grown else None
