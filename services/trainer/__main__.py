"""Entry point of trainer."""

import os
from functools import partial

from services.runtime.artifacts import Artifacts
from services.runtime.history import Following, read_all
from services.runtime.process import run_service, serve, watch
from services.runtime.stream import load_stream
from services.trainer.apprentice import Apprentice
from services.trainer.cards import Cards
from services.trainer.listening import Listening
from services.trainer.meters import tell
from services.trainer.registry import Registry
from services.trainer.settings import SERVICE, TrainerSettings
from services.trainer.stage import Training
from services.trainer.store import ExampleStore
from services.trainer.storing import FORMAT, STORE, opened


def main() -> None:
    settings = TrainerSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings, STORE)
    store = ExampleStore(settings.table, stream, settings.keep_days)
    depends = f"{FORMAT}/{stream.feature_set}/{opened(store, health.wait())}"
    artifacts = Artifacts(settings.data, stream.name)
    registry = Registry(stream, artifacts, partial(read_all, settings, stream.topic("models")))
    cards, worker = Cards(artifacts, stream.feature_set), Apprentice(settings.niceness)
    said = Following(settings, stream.topic("alerts")), Following(settings, stream.topic("commands"))
    listening, rule = Listening(*said, health.wait()), stream.pipeline.batch
    stage = Training(store, settings.tidy_every, rule, cards, registry, worker, health, listening)
    tell(health)
    try:
        serve(SERVICE, settings, stream, ["examples"], stage, depends, health, settings.commit_every_s)
    finally:
        worker.stop()


if __name__ == "__main__":
    run_service(SERVICE, main)
