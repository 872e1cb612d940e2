"""Which service reads and writes which topics, as the page draws it, and by which topic its output is counted."""

import msgspec


class Part(msgspec.Struct, frozen=True):
    """`writes[0]` is the topic by which the output of a service is counted."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


PARTS = {
    "ingestion": Part(("predictions",), ("events", "labels")),
    "features": Part(("events",), ("features", "late", "dead-letter")),
    "inference": Part(("features", "models"), ("predictions", "scored", "models")),
    "labels": Part(("scored", "labels"), ("examples", "dead-letter")),
    "learner": Part(("examples",), ("models",)),
    "trainer": Part(("examples", "models", "alerts", "commands"), ("models",)),
    "rollout": Part(("examples", "models"), ("models",)),
    "drift": Part(("scored", "examples", "summaries", "commands", "alerts"), ("summaries", "alerts")),
}
EDGES = [
    *([topic, service, "reads"] for service, part in PARTS.items() for topic in part.reads),
    *([service, topic, "writes"] for service, part in PARTS.items() for topic in part.writes),
]
