"""What goes wrong: one fault after the other, chosen by a seed, each healed after a while; some overlap.

A fault happens to a part of a running stack. Of the brokers one is faulty at a time, and only when all replicas are in
sync, as more would be more than a replication factor of three promises to bear.
"""

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from infra.local import brokers
from infra.local.instances import SERVICES
from infra.local.processes import Child
from infra.local.stack import Stack

Heal: TypeAlias = Callable[[], object]
SHARED = ("features", "inference", "labels")  # services whose partitions instances share
MOST = 2  # instances of one


class Fault(msgspec.Struct, frozen=True):
    """What was done to whom, when, and for how long; seconds since the first."""

    at: float
    kind: str
    target: str
    lasts: float


class Faults:
    """Injects and heals; call `step` often, from the thread that started the stack."""

    def __init__(self, stack: Stack, seed: int, every: tuple[float, float]) -> None:
        self._stack, self._every = stack, every
        self._random = random.Random(seed)  # noqa: S311 - chaos, not secrets
        self._began = time.monotonic()
        self._next = 0.0
        self._open: list[tuple[float, int, str, Heal]] = []  # a heap: due, serial, target, how to heal
        self._kinds: dict[str, tuple[Callable[[], Sequence[str]], Callable[[str], Heal], tuple[float, float]]] = {
            "kill a service": (self._services, self._kill, (0.0, 3.0)),
            "roll a service": (self._services, self._stop, (0.0, 1.0)),
            "pause a service": (self._services, self._pause, (1.0, 12.0)),
            "kill Triton": (lambda: self._of("triton"), self._kill, (0.0, 2.0)),
            "pause Triton": (lambda: self._of("triton"), self._pause, (1.0, 6.0)),
            "kill a broker": (self._brokers, self._kill, (0.0, 4.0)),
            "pause a broker": (self._brokers, self._pause, (1.0, 8.0)),
            "add an instance": (self._growing, self._add, (0.0, 0.0)),
            "remove an instance": (self._shrinking, self._remove, (0.0, 0.0)),
        }
        self.injected: list[Fault] = []

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def elapsed_at(self, moment: float) -> float:
        """Return how far into the run a moment of the monotonic clock was."""
        return moment - self._began

    def step(self) -> Fault | None:
        """Heal what is due; inject the next fault if it is time, and return it."""
        while self._open and self._open[0][0] <= self.elapsed:
            heapq.heappop(self._open)[3]()
        if self.elapsed < self._next:
            return None
        self._next = self.elapsed + self._random.uniform(*self._every)
        return self._inject()

    def heal(self) -> None:
        """End every fault that is open."""
        while self._open:
            heapq.heappop(self._open)[3]()

    def counts(self) -> dict[str, int]:
        return dict(Counter(fault.kind for fault in self.injected))

    def _inject(self) -> Fault | None:
        possible = {kind: targets for kind, (of, _, _) in self._kinds.items() if (targets := self._free(of()))}
        fewest = min(self.counts().get(kind, 0) for kind in possible)
        kind = self._random.choice([kind for kind in possible if self.counts().get(kind, 0) <= fewest + 1])
        target, (_, strike, span) = self._random.choice(possible[kind]), self._kinds[kind]
        fault = Fault(round(self.elapsed, 1), kind, target, round(self._random.uniform(*span), 1))
        heal = strike(target)
        heapq.heappush(self._open, (fault.at + fault.lasts, len(self.injected), target, heal))
        self.injected.append(fault)
        return fault

    # Who may be hit

    def _free(self, names: Sequence[str]) -> list[str]:
        faulty = {target for _, _, target, _ in self._open}
        return [name for name in names if name not in faulty]

    def _of(self, *kinds: str) -> list[str]:
        return [child.name for child in self._stack.children if child.kind in kinds and child.alive]

    def _services(self) -> list[str]:
        return self._of(*SERVICES)

    def _brokers(self) -> list[str]:
        nodes = [child.name for child in self._stack.children if child.kind == "kafka"]
        healthy = len(self._free(nodes)) == len(nodes) > 1 and brokers.in_sync(self._stack.broker)
        return nodes if healthy else []

    def _growing(self) -> list[str]:
        return [service for service in SHARED if len(self._of(service)) < MOST]

    def _shrinking(self) -> list[str]:
        crowds = [names for service in SHARED if len(names := self._free(self._of(service))) > 1]
        return [names[-1] for names in crowds]

    # What is done to them; each returns how to heal it

    def _child(self, name: str) -> Child:
        return self._stack.children[name]

    def _kill(self, name: str) -> Heal:
        self._child(name).kill()
        return self._child(name).restart

    def _stop(self, name: str) -> Heal:
        self._child(name).stop()
        return self._child(name).restart

    def _pause(self, name: str) -> Heal:
        self._child(name).pause()
        return self._child(name).resume

    def _add(self, service: str) -> Heal:
        self._stack.instances.add(service)
        return lambda: None

    def _remove(self, name: str) -> Heal:
        self._stack.children.remove(name)
        return lambda: None
