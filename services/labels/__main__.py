"""Entry point of labels."""

import os

from services.labels.core import SERVICE, LabelsCore
from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Settings
from services.runtime.stage import Cores
from services.runtime.stream import load_stream


def main() -> None:
    settings = Settings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    stage = Cores(lambda partition: LabelsCore(stream, partition))
    depends = f"{stream.feature_set}/{stream.label_rule}"
    serve(SERVICE, settings, stream, ["scored", "labels"], stage, depends, watch(SERVICE, settings))


if __name__ == "__main__":
    run_service(SERVICE, main)
