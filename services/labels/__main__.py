"""Entry point of labels."""

import os
import sys

from services.labels.core import FORMAT, SERVICE
from services.labels.index import warm_up
from services.labels.joining import Joining
from services.labels.meters import tell
from services.labels.rows import PAGE
from services.labels.segments import open_disks
from services.runtime.process import run_service, serve, watch
from services.runtime.schemas import scored_frame
from services.runtime.settings import Count, Settings
from services.runtime.stream import load_stream
from services.runtime.vitals import watermark


class LabelsSettings(Settings, frozen=True):
    """`waiting` bounds the rows of a partition that wait, which take some 65 bytes of memory, and labels that do."""

    waiting: Count = 4_000_000


def main() -> None:
    settings = LabelsSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings)
    sys.modules["scipy"] = None  # type: ignore[assignment] # numba would load it, 0.2 s, for what no kernel does
    warm_up()
    stage = Joining(stream, settings.waiting, health, open_disks(settings.data, stream.name, settings.snapshots))
    tell(health.metrics, lambda: health.labelled, stage.waiting)
    watermark(health.metrics, lambda: [core.newest for core in list(stage.cores.values())])
    depends = f"{FORMAT}/{scored_frame(stream).fingerprint}/{stream.label_rule}/{PAGE}"
    serve(SERVICE, settings, stream, ["scored", "labels"], stage, depends, health)


if __name__ == "__main__":
    run_service(SERVICE, main)
