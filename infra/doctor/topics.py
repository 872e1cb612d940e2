"""The topics of a stream: there, with partitions that match, settings that keep what must be kept, replicas in sync."""

from collections.abc import Mapping, Sequence

import msgspec

from infra.doctor.findings import Finding, judged, warning, wrong
from infra.local.topics import topic_config
from services.runtime.stream import TOPICS, UNPARTITIONED, Stream

SAFE = 3  # replicas, where there are so many brokers
CREATE = "create it, or let `thalweg up` do so"


class Partition(msgspec.Struct, frozen=True):
    """`leader` is -1 where there is none."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


class Topic(msgspec.Struct, frozen=True):
    """What a broker says of a topic; `config` is None where it does not say."""

    partitions: tuple[Partition, ...]
    config: Mapping[str, str] | None


def judge(stream: Stream, topics: Mapping[str, Topic], brokers: int, *, embedded: bool) -> list[Finding]:
    """Say what is wrong with a stream's topics. The embedded broker keeps one copy, in memory, and has few settings."""
    missing = [kind for kind in TOPICS if stream.topic(kind) not in topics]
    if len(missing) == len(TOPICS):
        return [warning("topics", f"{stream.name} has none on this broker", "start it: thalweg up")]
    there = {kind: topics[stream.topic(kind)] for kind in TOPICS if kind not in missing}
    found = [wrong("topics", f"{stream.topic(kind)} is missing", CREATE) for kind in missing]
    counts = judged([*found, *_counts(stream, there)], "topics", f"{len(there)}, with partitions that match")
    copies = [] if embedded else judged(_copies(stream, there, brokers), "replication", _least(there))
    says = "as they should be" if not embedded else "the embedded broker's own"
    settings = judged([] if embedded else _settings(stream, there), "topic settings", says)
    return [*counts, *settings, *copies]


def _counts(stream: Stream, there: Mapping[str, Topic]) -> list[Finding]:
    counts = {kind: len(topic.partitions) for kind, topic in there.items() if kind not in UNPARTITIONED}
    single = {kind: len(topic.partitions) for kind, topic in there.items() if kind in UNPARTITIONED}
    found = []
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        do = "a key's story must stay on one partition: stop, make them again with one count, and fold anew"
        found.append(wrong("topics", f"partition counts of {stream.name} differ: {said}", do))
    for kind, count in single.items():
        if count != 1:
            do = "its order must be total: stop, and make it again with one partition"
            found.append(wrong("topics", f"{stream.topic(kind)} has {count} partitions", do))
    return found


def _settings(stream: Stream, there: Mapping[str, Topic]) -> list[Finding]:
    found = []
    for kind, topic in there.items():
        name = stream.topic(kind)
        if topic.config is None:
            found.append(warning("topic settings", f"{name}: the broker does not say", "allow DESCRIBE_CONFIGS"))
            continue
        found += [one for key, value in topic_config(kind).items() for one in _setting(name, key, value, topic.config)]
        found += _kept(name, topic.config)
    return found


def _setting(name: str, key: str, expected: str, config: Mapping[str, str]) -> list[Finding]:
    value = config.get(key)
    fine = value is not None and (int(value) >= int(expected) if key == "max.message.bytes" else expected in value)
    do = f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config {key}={expected}"
    return [] if fine else [wrong("topic settings", f"{name}: {key} is {value}, not {expected}", do)]


def _kept(name: str, config: Mapping[str, str]) -> list[Finding]:
    """Say what would be lost: records that a fold from the beginning needs, or that a crash takes."""
    found = []
    retention = config.get("retention.ms", "-1")
    if retention != "-1" and "compact" not in config.get("cleanup.policy", ""):
        days = int(retention) / 86_400_000
        do = "what is older can be neither verified nor folded again: set -1 if that is not meant"
        found.append(warning("topic settings", f"{name} keeps records for {days:.3g} days", do))
    if config.get("unclean.leader.election.enable") == "true":
        do = "set unclean.leader.election.enable=false: a replica that lags could lead, and lose what was acknowledged"
        found.append(wrong("topic settings", f"{name} may lose acknowledged records", do))
    return found


def _copies(stream: Stream, there: Mapping[str, Topic], brokers: int) -> list[Finding]:
    found = []
    for kind, topic in there.items():
        name, least = stream.topic(kind), int((topic.config or {}).get("min.insync.replicas", "1"))
        found += _partitions(name, topic.partitions, least)
        copies = min(len(partition.replicas) for partition in topic.partitions)
        if brokers >= SAFE and copies < SAFE:
            found.append(warning("replication", f"{name} has {copies} of {SAFE} replicas", "reassign it with three"))
        elif topic.config is not None and copies >= SAFE and least < SAFE - 1:
            do = "set it to 2: what one replica alone has acknowledged goes with it"
            found.append(warning("replication", f"{name}: min.insync.replicas is {least}", do))
    return found


def _partitions(name: str, partitions: Sequence[Partition], least: int) -> list[Finding]:
    found = []
    for number, partition in enumerate(partitions):
        place, said = f"{name}[{number}]", f"{len(partition.in_sync)} of {len(partition.replicas)} replicas in sync"
        if partition.leader < 0:
            found.append(wrong("replication", f"{place} has no leader", "start the brokers that have its replicas"))
        elif len(partition.in_sync) < least:
            do = f"nothing can be written until there are {least}: start the brokers that are away"
            found.append(wrong("replication", f"{place}: {said}", do))
        elif len(partition.in_sync) < len(partition.replicas):
            found.append(warning("replication", f"{place}: {said}", "look at the brokers that are away or slow"))
    return found


def _least(there: Mapping[str, Topic]) -> str:
    copies = min(len(partition.replicas) for topic in there.values() for partition in topic.partitions)
    return f"{copies} replica{'s' if copies > 1 else ''} of each partition, in sync"
