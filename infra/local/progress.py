"""The live line: on a terminal it is rewritten in place, elsewhere a line is printed every few seconds."""

import sys
import time
from collections.abc import Callable

import numpy as np

from infra.local.ledger import Ledger
from infra.local.quality import losses
from infra.local.replayer import Sent

TERMINAL_S, PIPE_S = 0.25, 5.0


class Progress:
    """Shows how far the run is and how it is doing; call it as often as you like."""

    def __init__(self, ledger: Ledger, sent: Sent, total: int | None, more: Callable[[], str] = lambda: "") -> None:
        """`more` says what the line ends with."""
        self._ledger, self._sent, self._total, self._more = ledger, sent, total, more
        self._terminal = sys.stdout.isatty()
        self._every = TERMINAL_S if self._terminal else PIPE_S
        self._start = self._last = time.monotonic()
        self._last_count = 0
        self._losses = {"served": 0.0, "prior": 0.0}
        self._scored = 0
        self._unscored: list[str] = []
        self._labels_seen = 0
        self.pause = "nothing new"  # what is said while nothing comes

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last >= self._every:
            self._show(now)

    def close(self) -> None:
        self._show(time.monotonic())
        if self._terminal:
            print()

    def _show(self, now: float) -> None:
        line = self._line(now)
        print(f"\r\x1b[K{line}" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def _line(self, now: float) -> str:
        arrived = list(self._ledger.arrived.items())
        fresh = [(at - self._sent.events[name]) * 1e3 for name, at in arrived[self._last_count :]]
        pace = _pace(fresh, max(now - self._last, 1e-9)) if fresh else self.pause
        self._last, self._last_count = now, len(arrived)
        of = f"/{self._total}" if self._total else ""
        return (
            f"{now - self._start:5.1f} s  events {len(self._sent.events)}{of}  predictions {len(arrived)}"
            f"  labels {len(self._ledger.examples)}  {pace}  {self._loss()}{self._more()}"
        )

    def _loss(self) -> str:
        """Bring the running log losses up to date, and say them."""
        labels = list(self._sent.labels)
        candidates = self._unscored + labels[self._labels_seen :]
        self._labels_seen = len(labels)
        ready = [name for name in candidates if name in self._ledger.arrived]
        self._unscored = [name for name in candidates if name not in self._ledger.arrived]
        truth = np.array([self._sent.labels[name] for name in ready], np.bool_)
        for model, scores in (("served", self._ledger.served), ("prior", self._sent.prior)):
            self._losses[model] += float(losses(np.array([scores[name] for name in ready], np.float64), truth).sum())
        self._scored += len(ready)
        if not self._scored:
            return "log loss: no labels yet"
        served, prior = (self._losses[model] / self._scored for model in ("served", "prior"))
        return f"log loss {served:.3f} (prior {prior:.3f})"


def _pace(fresh_ms: list[float], seconds: float) -> str:
    p50, p99 = np.percentile(fresh_ms, [50, 99])
    return f"{len(fresh_ms) / seconds:5.0f}/s  p50 {p50:.0f} p99 {p99:.0f} ms"
