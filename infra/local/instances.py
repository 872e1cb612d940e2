"""The instances of each service: how many there are, what each is called, and how they come and go.

A service's partitions are shared among its instances by Kafka. Each has a number, which its `THALWEG_INSTANCE` is: the
child `features`, or `features-1`, `features-2` where the run starts with more than one.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.local.brokers import free_ports
from infra.local.processes import Child, Children

SERVICES = ("ingestion", "features", "inference", "labels", "learner", "trainer", "rollout", "drift", "console")
_ONE = ("ingestion", "drift", "console")  # each owns an HTTP port of its own


def parse(text: str) -> dict[str, int]:
    """Return how many instances `features=2,inference=2` asks for; ValueError says what is wrong with it."""
    counts = {}
    for part in text.split(","):
        service, _, number = part.partition("=")
        if not number.isdecimal() or service in counts:
            raise ValueError(f"--instances takes SERVICE=N, joined by commas and each service once, not {text!r}")
        counts[service] = int(number)
    check(counts)
    return counts


def check(counts: Mapping[str, int]) -> None:
    """Raise ValueError for what can't be run so often."""
    for service, count in counts.items():
        if service not in SERVICES:
            raise ValueError(f"no service {service!r} to have instances of; there are {', '.join(SERVICES)}")
        if count < 1:
            raise ValueError(f"a run needs at least one instance of {service}, not {count}")
        if service in _ONE and count > 1:
            raise ValueError(f"{service} owns the HTTP port, so it can have one instance only, not {count}")


class Instances:
    """Starts services as children in `cwd`, each with the shared `environment` and its own number."""

    def __init__(
        self,
        children: Children,
        environment: Mapping[str, str],
        cwd: Path,
        own: Mapping[str, Mapping[str, str]] | None = None,
        through: Sequence[str] = (),
    ) -> None:
        """`own` are variables that one service alone has, `through` what Python runs each through: -m cProfile."""
        self._own, self._through = own or {}, through
        self._children, self._environment, self._cwd = children, environment, cwd
        self._probes: dict[str, str] = {}
        self.changed: Callable[[], None] = lambda: None  # called when one more is there

    @property
    def probes(self) -> dict[str, str]:
        """Where each answers /healthz and /readyz, by its name."""
        return {child.name: self._probes[child.name] for child in self._children if child.name in self._probes}

    def start(self, counts: Mapping[str, int]) -> None:
        """Start every service, one instance of those that `counts` does not name."""
        for service in SERVICES:
            count = counts.get(service, 1)
            for number in range(1, count + 1):
                self._start(service if count == 1 else f"{service}-{number}", service, number)

    def add(self, service: str) -> Child:
        """Start one more, with the lowest number that is free."""
        taken = {_number(child) for child in self._children if child.kind == service}
        check({service: len(taken) + 1})
        number = min(set(range(1, len(taken) + 2)) - taken)
        child = self._start(f"{service}-{number}", service, number)
        self.changed()
        return child

    def _start(self, name: str, service: str, number: int) -> Child:
        argv = [sys.executable, *self._through, "-m", f"services.{service}"]
        port = free_ports(1)[0]
        self._probes[name] = f"http://127.0.0.1:{port}"
        environment = {
            **self._environment,
            **self._own.get(service, {}),
            "THALWEG_INSTANCE": str(number),
            "THALWEG_HEALTH_PORT": str(port),
        }
        return self._children.start(name, argv, kind=service, env=environment, cwd=self._cwd)


def _number(child: Child) -> int:
    return int(child.name.partition("-")[2] or 1)
