"""Entry point of trainer."""

import os

from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Count, Seconds, Settings
from services.runtime.stream import load_stream
from services.trainer.store import ExampleStore
from services.trainer.storing import STORE, Storing, opened

SERVICE = "trainer"


class TrainerSettings(Settings, frozen=True):
    """`store` is where the tables of examples are: a folder or a URL; empty: `<data>/store`.

    What comes within `commit_every_s` is one commit of the table. It is compacted, and rid of versions older than
    `keep_days`, every `tidy_every` commits.
    """

    store: str = ""
    commit_every_s: Seconds = 10.0
    tidy_every: Count = 100
    keep_days: Count = 30


def main() -> None:
    settings = TrainerSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings, STORE)
    store = ExampleStore(settings.store or str(settings.data / "store"), stream, settings.keep_days)
    depends = f"{stream.feature_set}/{opened(store, health.wait())}"
    stage = Storing(store, settings.tidy_every)
    serve(SERVICE, settings, stream, ["examples"], stage, depends, health, settings.commit_every_s)


if __name__ == "__main__":
    run_service(SERVICE, main)
