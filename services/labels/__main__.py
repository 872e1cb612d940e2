"""Entry point of labels."""

import os

from services.labels.core import SERVICE
from services.labels.joining import Joining
from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Count, Settings
from services.runtime.stream import load_stream


class LabelsSettings(Settings, frozen=True):
    """`waiting` bounds the rows, and the labels, of a partition that wait for their counterpart."""

    waiting: Count = 500_000


def main() -> None:
    settings = LabelsSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings)
    stage = Joining(stream, settings.waiting, health)
    depends = f"{stream.feature_set}/{stream.label_rule}"
    serve(SERVICE, settings, stream, ["scored", "labels"], stage, depends, health)


if __name__ == "__main__":
    run_service(SERVICE, main)
