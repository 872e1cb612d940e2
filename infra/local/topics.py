"""What each topic of a stream is like: how many partitions, and which settings. Whoever creates them asks here."""

from services.runtime.stream import LARGEST_MESSAGE, UNPARTITIONED


def partitions(kind: str, shared: int) -> int:
    """Return how many a topic has: those that share their keys have `shared`, a total order has one."""
    return 1 if kind in UNPARTITIONED else shared


def topic_config(kind: str) -> dict[str, str]:
    """Return a topic's settings: the broker's clock on what clients write, room for what services make of it."""
    if kind in ("events", "labels"):
        return {"message.timestamp.type": "LogAppendTime"}
    compacted = {"cleanup.policy": "compact"} if kind in ("models", "alerts") else {}
    return {"max.message.bytes": str(LARGEST_MESSAGE)} | compacted
