"""Entry point of learner."""

import os

from services.learner.model import fingerprint
from services.learner.publishing import Publishing
from services.runtime.artifacts import Artifacts
from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Settings
from services.runtime.stream import load_stream

SERVICE = "learner"


def main() -> None:
    settings = Settings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings)
    stage = Publishing(stream, Artifacts(settings.data, stream.name), health.clock, health.wait())
    serve(SERVICE, settings, stream, ["examples"], stage, fingerprint(stream), health)


if __name__ == "__main__":
    run_service(SERVICE, main)
