"""Which groups features forget, against a naive reading of the rule, and that they hold no more than they may."""

import random
from unittest import mock

import msgspec
import numpy as np
import pytest

from services.features import engine
from services.features.core import FeaturesCore
from services.runtime.frames import rows
from services.runtime.grammar import Count, Duration, OneHot
from services.runtime.records import Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream
from tests.made import event, log, made, only

DAY = Duration("1d")
BOTH = {"by_key": Count(window=DAY), "by_pair": Count(window=DAY, by=["kind", "key"])}


def counts(stream: Stream, records: list[Record]) -> list[list[float]]:
    [out] = only(FeaturesCore(stream, 0).fold(records), "features")
    batch = features_frame(stream).decode(Record(out.topic, 0, 0, None, out.value, headers=out.headers))
    return np.asarray(rows(batch.column("features")))[:, :2].tolist()  # type: ignore[no-any-return]


def naive(groups: list[tuple[str, ...]], pairs: int, most: int, look_every: int) -> list[list[float]]:
    """Count each event's groups, `pairs` of them an event, as they were since they were forgotten last."""
    seen: dict[tuple[str, ...], list[int]] = {}
    said = []
    for number in range(0, len(groups), pairs):
        mine = groups[number : number + pairs]
        said.append([float(len(seen.get(group, ()))) for group in mine])
        for group in mine:
            seen.setdefault(group, []).append(number // pairs)
        if (number // pairs + 1) % look_every == 0 and len(seen) > most:
            newest = sorted((events[-1] for events in seen.values()), reverse=True)
            seen = {group: events for group, events in seen.items() if events[-1] > newest[most // 2]}
    return said


@pytest.mark.parametrize("most", [3, 20, 41, 80])
@pytest.mark.parametrize("look_every", [1, 16])
def test_the_groups_that_had_no_event_for_longest_are_forgotten(most: int, look_every: int) -> None:
    """All groupings together: over the bound, half of it is kept, the latest; who comes back has no past."""
    draw = random.Random(most)  # noqa: S311 - chance that repeats itself, nothing secret
    events = [event(n, key=f"k{int(draw.expovariate(0.1))}", kind=draw.choice("abc")) for n in range(1500)]
    groups = [group for e in events for group in ((e["key"],), (e["kind"], e["key"]))]
    expected = naive(groups, 2, most, look_every)
    assert expected != naive(groups, 2, 10**6, 1)
    with mock.patch.object(engine, "LOOK_EVERY", look_every):
        assert counts(made(BOTH, groups=most), log(events)) == expected


def test_what_is_held_is_bounded() -> None:
    """However many keys come, there are at most `groups` and those that came since the last look; values go too."""
    stream = made(BOTH | {"hot": OneHot(of="kind", values=["a"])}, groups=1000)
    core = FeaturesCore(stream, 0)
    records = log([event(n / 1000, key=f"k{n}", kind=f"v{n}") for n in range(30_000)])
    sizes = []
    for start in range(0, len(records), 500):
        core.fold(records[start : start + 500])
        held = msgspec.msgpack.decode(core.snapshot())["engine"]
        sizes.append((sum(group["rows"][0][1][0] for group in held["groups"]), *map(len, held["fields"])))
    groups, *values = map(max, zip(*sizes, strict=True))
    assert groups <= 1000 + 2 * engine.LOOK_EVERY
    assert all(most <= groups for most in values)


def test_a_one_hot_of_a_forgotten_value_is_right_when_it_comes_back() -> None:
    """Numbers of values move when some are forgotten; what stands for a value doesn't."""
    stream = made({"hot": OneHot(of="kind", values=["a", "b"]), "n": Count(window=DAY, by=["key", "kind"])}, groups=4)
    kinds = ["b", *(f"v{n}" for n in range(20)), "a", "b", "v3", "b", "a"] * 3
    with mock.patch.object(engine, "LOOK_EVERY", 2):
        said = counts(stream, log([event(n, kind=kind) for n, kind in enumerate(kinds)]))
    assert said == [[float(kind == "a"), float(kind == "b")] for kind in kinds]
