"""How many instances of a service run, what they are called and how they tell themselves apart."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.instances import SERVICES, Instances, check, parse
from infra.local.processes import Child, Children

SERVICE = "import os, time\nprint(__name__, os.environ['THALWEG_INSTANCE'], os.environ['SHARED'], flush=True)\n"


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[Instances]:
    """Start what stands in for the services: modules of their names that say their number and sleep."""
    for name in ("__init__", *SERVICES):
        (tmp_path / "services").mkdir(exist_ok=True)
        (tmp_path / "services" / f"{name}.py").write_text(f"{SERVICE}time.sleep(60)\n" if name in SERVICES else "")
    with Children(tmp_path / "logs") as children:
        yield Instances(children, {"SHARED": "all"}, tmp_path)


def names(instances: Instances) -> list[str]:
    return [child.name for child in instances._children]


def said(child: Child) -> str:
    deadline = time.monotonic() + 20
    while not child.tail():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return child.tail()


def test_one_has_the_service_s_name_and_more_are_numbered(instances: Instances) -> None:
    """Every service runs; a service that runs twice has no child of its bare name."""
    instances.start({"features": 2, "labels": 1})
    assert names(instances) == [
        "ingestion",
        "features-1",
        "features-2",
        "inference",
        "labels",
        "learner",
        "trainer",
        "rollout",
        "drift",
        "console",
    ]
    assert {child.kind for child in instances._children} == set(SERVICES)


def test_each_knows_its_number_and_keeps_it_over_a_restart(instances: Instances) -> None:
    """THALWEG_INSTANCE is 1, 2, ... beside what all services are told, and a restart changes neither."""
    instances.start({"features": 2})
    one, two = instances._children["features-1"], instances._children["features-2"]
    assert (said(one), said(two)) == ("__main__ 1 all", "__main__ 2 all")
    two.restart()
    assert said(two) == "__main__ 2 all"
    assert said(instances._children["learner"]) == "__main__ 1 all"


def test_one_that_is_added_takes_the_lowest_free_number(instances: Instances) -> None:
    """No two that run have the same number, and that of one that left is used again."""
    instances.start({})
    assert [instances.add("labels").name for _ in range(2)] == ["labels-2", "labels-3"]
    instances._children.remove("labels-2")
    assert "labels-2" not in names(instances)
    assert said(instances.add("labels")) == "__main__ 2 all"
    instances._children.remove("labels")
    assert instances.add("labels").name == "labels-1"


def test_ingestion_stays_alone(instances: Instances) -> None:
    """It owns the HTTP port: a second one is refused, and one in place of the first is not."""
    instances.start({})
    with pytest.raises(ValueError, match="ingestion owns the HTTP port, so it can have one instance only, not 2"):
        instances.add("ingestion")
    instances._children.remove("ingestion")
    assert instances.add("ingestion").name == "ingestion-1"


def test_counts_are_read() -> None:
    assert parse("features=2") == {"features": 2}
    assert parse("features=2,inference=3,ingestion=1") == {"features": 2, "inference": 3, "ingestion": 1}


@pytest.mark.parametrize("text", ["features", "features=", "features=two", "features=-1", "", "features=1,features=2"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--instances takes SERVICE=N"):
        parse(text)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"tides": 1},
            "no service 'tides' .*; there are ingestion, features, inference, labels, learner, trainer, rollout, drift",
        ),
        ({"features": 0}, "at least one instance of features, not 0"),
        ({"ingestion": 2}, "ingestion owns the HTTP port"),
    ],
)
def test_what_cannot_run_so_often_is_refused(counts: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(counts)
