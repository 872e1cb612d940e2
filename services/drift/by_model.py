"""One watch for each model that is heard of, and how the models share the false alarms that are allowed.

What is served has half of them, the online model a quarter, and each of the VERSIONS versions of the batch model that
are remembered an eighth of the rest: those heard of least lately are forgotten.
"""

from collections.abc import Callable
from typing import TypeAlias

from services.drift.example_rows import SERVED
from services.drift.watching import Watch
from services.runtime.models import BATCH, ONLINE

VERSIONS = 8
SHARES = {SERVED: 1 / 2, ONLINE: 1 / 4, BATCH: 1 / 4 / VERSIONS}
ByModelState: TypeAlias = dict[str, list[bytes]]  # the least lately heard of first


class ByModel:
    """The watches by model; `make` makes one from the share of false alarms that it has."""

    def __init__(self, make: Callable[[float], Watch]) -> None:
        self._make = make
        self.watches: dict[str, Watch] = {}

    def __getitem__(self, model: str) -> Watch:
        """Return the watch of a model that was heard of now."""
        watch = self.watches.pop(model, None) or self._make(SHARES[model.partition("@")[0]])
        self.watches[model] = watch
        if len(self.watches) > VERSIONS:
            self._forget()
        return watch

    def _forget(self) -> None:
        versions = [name for name in self.watches if name.startswith(f"{BATCH}@")]
        for former in versions[:-VERSIONS]:
            del self.watches[former]

    def state(self) -> ByModelState:
        return {model: watch.state() for model, watch in self.watches.items()}

    def load(self, state: ByModelState) -> None:
        self.watches = {}
        for model, held in state.items():
            self[model].load(held)
