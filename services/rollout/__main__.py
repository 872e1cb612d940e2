"""Entry point of rollout."""

import os

from services.rollout.core import FORMAT
from services.rollout.deciding import Deciding
from services.rollout.meters import Qualities
from services.runtime.history import Following
from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Settings
from services.runtime.stream import load_stream

SERVICE = "rollout"


def main() -> None:
    settings = Settings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings)
    models = Following(settings, stream.topic("models"))
    stage = Deciding(stream, models, health.clock, health.wait())
    depends = f"{FORMAT}/{stream.feature_set}/{stream.rollout_rule}"
    qualities = Qualities(health.metrics, stream, stage)
    serve(SERVICE, settings, stream, ["examples"], stage, depends, health, after=qualities.after)


if __name__ == "__main__":
    run_service(SERVICE, main)
