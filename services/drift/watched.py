"""What a table of a panel is of, and its counts as a person reads them."""

from collections.abc import Sequence
from typing import NamedTuple

from services.drift.kernels import Floats, Ints
from services.runtime.alerts import Histogram, Kind


class Table(NamedTuple):
    """What a table is of: the kind of alert, the column's name, and the names of its cells if it has no edges.

    `field` is what the column is made of, `direct` where it is that itself: it comes first among those it explains.
    """

    kind: Kind
    name: str
    cells: Sequence[str] = ()
    field: str = ""
    direct: bool = False

    def histogram(self, edges: Floats, counts: Ints) -> Histogram:
        """Return counts of the table's cells; a number's last one is of what is missing."""
        if self.cells:
            return Histogram(counts[: len(self.cells)].tolist(), names=list(self.cells))
        return Histogram(counts[: len(edges) + 1].tolist(), edges.tolist(), missing=int(counts[len(edges) + 1]))
