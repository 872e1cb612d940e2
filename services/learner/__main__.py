"""Entry point of learner."""

import os

from services.learner.meters import tell
from services.learner.model import fingerprint
from services.learner.publishing import Publishing
from services.runtime.artifacts import Artifacts
from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Count, Settings
from services.runtime.stream import load_stream
from services.runtime.tracing import open_tracing

SERVICE = "learner"


class LearnerSettings(Settings, frozen=True):
    """`versions` is how many of the model's versions have their artifact kept."""

    versions: Count = 1000


def main() -> None:
    settings = LearnerSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings)
    artifacts = Artifacts(settings.data, stream.name)
    stage = Publishing(stream, artifacts, settings.versions, health.clock, health.wait())
    tell(health.metrics, stage)
    tracing = open_tracing(SERVICE, settings, stream, stage.learned)
    serve(SERVICE, settings, stream, ["examples"], stage, fingerprint(stream), health, tracing=tracing)


if __name__ == "__main__":
    run_service(SERVICE, main)
