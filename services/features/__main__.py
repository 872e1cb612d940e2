"""Entry point of features."""

import os
import sys

from services.features.core import SERVICE, FeaturesCore
from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Settings
from services.runtime.stage import Cores
from services.runtime.stream import load_stream
from services.runtime.vitals import watermark


def main() -> None:
    settings = Settings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings)
    sys.modules["scipy"] = None  # type: ignore[assignment] # numba would load it, 0.2 s, for what no kernel does
    FeaturesCore(stream, 0).warm_up()
    stage = Cores(lambda partition: FeaturesCore(stream, partition))
    watermark(health.metrics, lambda: [core.newest for core in list(stage.cores.values())])
    serve(SERVICE, settings, stream, ["events"], stage, stream.feature_set, health)


if __name__ == "__main__":
    run_service(SERVICE, main)
