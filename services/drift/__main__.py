"""Entry point of drift."""

import os

from services.drift.judging import Judge
from services.drift.serving import serve
from services.drift.settings import SERVICE, DriftSettings
from services.runtime.history import Following
from services.runtime.process import run_service, watch
from services.runtime.stream import load_stream


def main() -> None:
    settings = DriftSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings)
    alerts, commands = Following(settings, stream.topic("alerts")), Following(settings, stream.topic("commands"))
    judge = Judge(stream, alerts, commands)
    serve(SERVICE, settings, stream, ["scored", "examples", "summaries"], judge, health)


if __name__ == "__main__":
    run_service(SERVICE, main)
