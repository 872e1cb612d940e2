"""Entry point of inference."""

import os

from services.inference.meters import Ages
from services.inference.scoring import Scoring
from services.inference.triton import TIMEOUT_S, Triton
from services.runtime.health import Step
from services.runtime.kafka import Tail
from services.runtime.models import BATCH, ONLINE
from services.runtime.process import run_service, serve, watch
from services.runtime.settings import Settings
from services.runtime.stream import load_stream
from services.runtime.tracing import open_tracing

SERVICE = "inference"


class InferenceSettings(Settings, frozen=True):
    """`triton` is the server's gRPC address; after `timeout_s` without an answer a batch is sent again."""

    triton: str = "127.0.0.1:8001"
    timeout_s: float = TIMEOUT_S


def main() -> None:
    settings = InferenceSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    health = watch(SERVICE, settings, Step(f"Triton at {settings.triton}"))
    online, batch = (Triton(settings.triton, f"{stream.name}_{kind}", settings.timeout_s) for kind in (ONLINE, BATCH))
    models = Tail(settings, stream.topic("models"), from_beginning=True)
    tracing = open_tracing(SERVICE, settings, stream)
    stage = Scoring(stream, online, batch, lambda: models.poll(settings.batch, 0), tracing=tracing)
    stage.warm_up(health.wait())
    after = Ages(health.metrics).after
    serve(SERVICE, settings, stream, ["features"], stage, stream.feature_set, health, tracing=tracing, after=after)


if __name__ == "__main__":
    run_service(SERVICE, main)
